"""Order, failure and deadlines of parallel tasks."""

import io
import threading
import time

import pytest

from lab.errors import LabError
from lab.progress import Progress
from lab.tasks import Cancel, Task, run


def progress() -> Progress:
    return Progress(io.StringIO(), live=False)


def test_a_task_starts_after_those_it_needs_and_beside_the_others() -> None:
    order: list[str] = []
    meet = threading.Barrier(2, timeout=5)

    def log(name: str, *, meets: bool = False) -> Task:
        def work(_: Cancel) -> None:
            if meets:
                meet.wait()
            order.append(name)

        after = {"c": ("a", "b"), "d": ("c", "absent")}.get(name, ())
        return Task(name=name, run=work, after=after)

    run([log("d"), log("c"), log("b", meets=True), log("a", meets=True)], progress())
    assert sorted(order[:2]) == ["a", "b"]
    assert order[2:] == ["c", "d"]


def test_a_failure_ends_what_waits_and_starts_nothing_more() -> None:
    started: list[str] = []

    def fail(_: Cancel) -> None:
        raise LabError("no disk")

    def wait_long(cancel: Cancel) -> None:
        cancel.until(lambda: False, "never", 60)

    def note(_: Cancel) -> None:
        started.append("late")

    tasks = [Task(name="long", run=wait_long), Task(name="bad", run=fail), Task(name="late", run=note, after=("bad",))]
    begin = time.monotonic()
    with pytest.raises(LabError, match=r"^no disk$"):
        run(tasks, progress())
    assert time.monotonic() - begin < 5
    assert started == []


def test_tasks_that_wait_for_each_other_are_an_error() -> None:
    def nothing(_: Cancel) -> None:
        pass

    tasks = [Task(name="a", run=nothing, after=("b",)), Task(name="b", run=nothing, after=("a",))]
    with pytest.raises(ValueError, match="tasks wait for each other: a, b"):
        run(tasks, progress())


def test_waiting_has_a_deadline_and_stops_when_it_is_in_vain() -> None:
    with pytest.raises(LabError, match=r"^the node: not within 0 s$"):
        Cancel().until(lambda: False, "the node", 0.05)
    with pytest.raises(LabError, match=r"^the node: kubelet has ended$"):
        Cancel().until(lambda: False, "the node", 60, lambda: "kubelet has ended")
    Cancel().until(lambda: True, "the node", 0)
