"""Whose turn it is: what the program hands to the engine, and when."""

import pytest

from components.rollout import halted
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
