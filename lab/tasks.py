"""Runs named tasks in parallel, each as soon as those it needs are done, and waits for conditions with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import LabError

if TYPE_CHECKING:
    from lab.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Task:
    """One piece of work."""

    name: str
    run: Callable[[Cancel], None]
    after: tuple[str, ...] = ()
    """Names of the tasks that must be done before; those that are not among the tasks count as done."""


class Cancel(threading.Event):
    """Set as soon as one task has failed: the others then stop waiting."""

    def until(self, check: Callable[[], bool], what: str, seconds: float, watch: Callable[[], str] = str) -> None:
        """Wait until a check is true.

        Args:
            check: Asked about ten times a second; must not block for long.
            what: What is waited for, for the message.
            seconds: The deadline.
            watch: Says why it can never become true any more; an empty text means that it still can.

        Raises:
            LabError: The deadline has passed, `watch` has said so, or another task has failed.
        """
        deadline = time.monotonic() + seconds
        pause = 0.02
        while not check():
            reason = watch()
            if not reason and time.monotonic() > deadline:
                reason = f"not within {seconds:.0f} s"
            if reason:
                raise LabError(f"{what}: {reason}")
            if self.wait(pause):
                raise CancelledError(f"{what}: given up")
            pause = min(0.2, pause * 1.3)


class CancelledError(LabError):
    """A task gave up because another one had failed."""


def run(tasks: Sequence[Task], progress: Progress, workers: int = 32) -> None:
    """Run all tasks; each is a step of the progress display.

    Raises:
        LabError: One failed; no further one was started, and those that ran have ended.
        ValueError: A task can never start because tasks wait for each other.
    """
    cancel = Cancel()
    names = {task.name for task in tasks}
    waiting = {task.name: (task, set(task.after) & names) for task in tasks}
    running: dict[Future[None], str] = {}
    errors: list[BaseException] = []

    def start(task: Task) -> None:
        with progress.step(task.name):
            task.run(cancel)

    with ThreadPoolExecutor(workers) as pool:
        try:
            while waiting or running:
                for name in [n for n, (_, needs) in waiting.items() if not needs and not errors]:
                    task, _ = waiting.pop(name)
                    running[pool.submit(start, task)] = name
                if not running:
                    if not errors:
                        raise ValueError(f"tasks wait for each other: {', '.join(sorted(waiting))}")
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    name = running.pop(future)
                    error = future.exception()
                    if error:
                        errors.append(error)
                        cancel.set()
                    for _, needs in waiting.values():
                        needs.discard(name)
        except BaseException:
            cancel.set()
            raise
    if errors:
        raise next((e for e in errors if not isinstance(e, CancelledError)), errors[0])
