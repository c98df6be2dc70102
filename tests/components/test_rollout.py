"""Whose turn it is: what the program hands to the engine, and when."""

import heapq
from collections import deque
from dataclasses import dataclass, field

import pytest

from components.rollout import halted, under_way
from hosts.plan import CONFIRM_SECONDS
from registration.waves import Waves

WAVES = Waves(first=("sick",), waves=(("a", "b"), ("c", "d"), ("e",)))


def test_a_halted_vm_says_where_the_change_stopped_and_how_far_it_came() -> None:
    assert halted("billing", ["d"], WAVES) == (
        "the change of billing has stopped at d, in wave 2 of 3; changed: a, b, c; left as they are: e"
    )


def test_vms_that_were_halted_themselves_did_not_stop_it() -> None:
    assert "stopped at a, in wave 1 of 3; changed: b; left as they are: c, d, e" in halted("x", ["a", "c", "d"], WAVES)


@pytest.mark.parametrize("failed", [[], ["sick"]])
def test_vms_that_did_not_serve_before_halt_nobody(failed: list[str]) -> None:
    assert halted("billing", failed, WAVES) == ""


STEPS = (("configure", 6.0), ("membership", 0.3), ("enrol", 3.0), ("confirm", 4.0))
"""What a joining VM makes the engine do, and for how many seconds on a busy machine."""


@dataclass
class Engine:
    """The engine as far as it matters here: steps that are ready wait in one line for a number of workers."""

    workers: int
    places: int
    vms: int
    now: float = 0.0
    late: int = 0
    ready: deque[tuple[int, int, float]] = field(default_factory=deque)
    running: list[tuple[float, int, int]] = field(default_factory=list)

    def join_all(self) -> None:
        """Take every VM through its steps, so many at once, and count those confirmed after their time had run out."""
        waiting = deque(range(self.vms))
        for _ in range(min(self.places, self.vms)):
            self.ready.append((waiting.popleft(), 0, 0.0))
        started = dict.fromkeys(range(self.vms), 0.0)
        while self.ready or self.running:
            while self.ready and len(self.running) < self.workers:
                vm, step, _ = self.ready.popleft()
                if STEPS[step][0] == "confirm" and self.now - started[vm] > CONFIRM_SECONDS - STEPS[step][1]:
                    self.late += 1
                heapq.heappush(self.running, (self.now + STEPS[step][1], vm, step))
            self.now, vm, step = heapq.heappop(self.running)
            if STEPS[step][0] == "enrol":
                started[vm] = self.now
            if step + 1 < len(STEPS):
                self.ready.append((vm, step + 1, self.now))
            elif waiting:
                self.ready.append((waiting.popleft(), 0, self.now))


@pytest.mark.parametrize("workers", [1, 4, 8, 16, 64])
def test_no_confirmation_of_500_vms_comes_late_by_waiting_in_line(workers: int) -> None:
    bounded, unbounded = Engine(workers, under_way(workers), 500), Engine(workers, 500, 500)
    bounded.join_all()
    unbounded.join_all()
    assert bounded.late == 0
    assert unbounded.late > 50 or workers == 64
    assert bounded.now <= unbounded.now * 1.05, "the bound costs no time"


@pytest.mark.parametrize(("workers", "vms"), [(None, 1), (0, 1), (1, 1), (16, 16)])
def test_as_many_vms_are_under_way_as_the_engine_has_workers(workers: int | None, vms: int) -> None:
    assert under_way(workers) == vms
