"""The commands: preview, up, destroy, outputs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from lab.engine import config, urns
from lab.engine.deletion import delete_rest
from lab.engine.deployment import Deployment
from lab.engine.display import Display
from lab.engine.monitor import Monitor, serve
from lab.engine.process import ProgramProcess
from lab.engine.registry import PACKAGES, ProviderFactory, Registry, stack_outputs
from lab.engine.state import State, locked
from lab.engine.values import redact, strip_secrets


class Engine:
    """Runs one stack of a project.

    Args:
        directory: The project's folder, where Pulumi.yaml lies.
        stack: The stack's name.
        stack_file: The stack's configuration; default Pulumi.<stack>.yaml in the project.
        state: Folder for state; default `.lab/state` in the project.
        packages: Makes providers, by package.
        launch: Starts the program's process.
    """

    def __init__(
        self,
        directory: Path,
        stack: str,
        *,
        stack_file: Path | None = None,
        state: Path | None = None,
        packages: Mapping[str, ProviderFactory] = PACKAGES,
        launch: Callable[[], ProgramProcess] = ProgramProcess,
    ) -> None:
        self.directory, self.stack = directory.resolve(), stack
        self._stack_file = stack_file
        self.state = state or self.directory / ".lab" / "state"
        self._packages, self._launch = packages, launch

    def preview(self, display: Display) -> bool:
        """Show what `up` would do; false if something is wrong."""
        with self._deployment(display, preview=True) as (run, project):
            self._program(run, project, display)
        return display.finish(preview=True)

    def up(self, display: Display) -> bool:
        """Make it so; false if something failed."""
        with locked(self.state, self.stack), self._deployment(display, preview=False) as (run, project):
            self._program(run, project, display)
        return display.finish(preview=False)

    def destroy(self, display: Display) -> bool:
        """Delete everything that state knows; runs no program."""
        project = config.Project("", self.directory, self.directory)  # whatever is wrong with its files
        with locked(self.state, self.stack), self._deployment(display, preview=False, project=project) as (run, _):
            delete_rest(run, everything=True)
            self._orphans(run)
        return display.finish(preview=False)

    def outputs(self, *, show_secrets: bool = False) -> dict[str, Any]:
        """Return what the stack's program exported."""
        outputs = stack_outputs(State(self.state, self.stack, writable=False))
        return {key: redact(strip_secrets(value) if show_secrets else value) for key, value in outputs.items()}

    @contextmanager
    def _deployment(
        self, display: Display, *, preview: bool, project: config.Project | None = None
    ) -> Iterator[tuple[Deployment, config.Project]]:
        project = project or config.load(self.directory, self.stack, self._stack_file)
        display.learn_texts(project.config[key] for key in project.secret_keys if key in project.config)
        display.config = {k: "[secret]" if k in project.secret_keys else v for k, v in project.config.items()}
        state = State(self.state, self.stack, writable=not preview)
        for record in state.records.values():
            display.learn(record.inputs)
            display.learn(record.outputs)
        run = Deployment(
            stack=self.stack,
            project=project.name,
            state=state,
            registry=Registry(self._packages),
            events=display,
            preview=preview,
        )
        for urn in sorted(state.creating):
            display.message("warning", urn, "it was being created when the last run ended, so it may exist")
        display.old_outputs = stack_outputs(state)
        with _interrupts(run, display):
            yield run, project
        display.new_outputs = stack_outputs(state)
        state.close()

    def _program(self, run: Deployment, project: config.Project, display: Display) -> None:
        program = self._launch()
        monitor = Monitor(run)
        run.on_cancel = program.stop
        with serve(monitor) as address:
            settings = {
                "directory": str(project.directory),
                "main": str(project.main),
                "project": project.name,
                "stack": self.stack,
                "address": address,
                "preview": run.preview,
                "config": project.config,
                "secret_keys": list(project.secret_keys),
            }
            with ThreadPoolExecutor(1) as pool:
                ending = pool.submit(program.run, settings, lambda line: display.message("info", "", line))
                # A signal that comes right before a blocking call is seen after it, so no call here blocks for long.
                while not wait([ending], timeout=0.2).done:
                    pass
            code = ending.result()
        if code != 0 and not display.failed and not run.cancelled.is_set():
            display.message("error", "", f"the program ended with exit code {code}")
        if monitor.stack_outputs is not None:
            stack = run.urn("", urns.STACK_TYPE, f"{run.project}-{run.stack}")
            run.outputs(stack, monitor.stack_outputs, keep=code != 0 or bool(run.failed))
        if code == 0 and not run.cancelled.is_set():
            delete_rest(run)
            self._orphans(run)

    def _orphans(self, run: Deployment) -> None:
        """Tell of creates that an earlier run began and this one had no use for."""
        for urn in sorted(run.state.creating - run.seen):
            text = "its creation was interrupted, and it is not wanted any more: if it exists, remove it by hand"
            run.events.message("warning", urn, text)
            run.state.commit({}, creating={urn: False})


@contextmanager
def _interrupts(run: Deployment, display: Display) -> Iterator[None]:
    """End a run in good order on Ctrl-C: what is under way is finished and recorded; a second one ends it at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if run.cancelled.is_set():
            raise KeyboardInterrupt
        run.cancelled.set()
        display.message("error", "", "interrupted: waiting for the steps under way (again: give up)")
        run.on_cancel()

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
