"""The whole program where it looks at its hosts: what is found shows in the plan, and only there."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from recording import Run
from test_program import STACK, project, run_program

from hosts.login import SshTarget
from hosts.observe import Found
from observation import reader

__all__ = ["project"]

DRIFTED = Found(
    record=(
        "since 2026-11-21T10:00:00Z: istio.service - active",
        "since 2026-11-21T10:00:00Z: istio.service + inactive",
    ),
    drift=("istio.service - active", "istio.service + inactive"),
)
REPAIRED = Found(record=DRIFTED.record)
SILENT = Found(unknown="ssh to 10.77.0.22:22: no answer within 9 s")
STEPS = ("configure", "enrol", "confirm")


def observe(patch: pytest.MonkeyPatch) -> dict[str, Found]:
    """Have the program look at its VMs, and return what it finds there, for a test to fill."""
    found: dict[str, Found] = {}

    def look(targets: Mapping[str, SshTarget]) -> dict[str, Found]:
        assert {name: target.vm.host for name, target in targets.items()} == {
            "billing-1": "10.77.0.21",
            "billing-2": "10.77.0.22",
            "ledger-1": "10.77.0.23",
        }
        return {name: found.get(name, Found()) for name in targets}

    patch.setitem(STACK["hosts"], "observe", True)
    patch.setattr(reader, "look", look)
    return found


@pytest.fixture
def observed(project: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Found]:
    return observe(monkeypatch)


@pytest.fixture(scope="module")
def looked(project: Path) -> Run:
    """A run that finds all as it was left."""
    with pytest.MonkeyPatch.context() as patch:
        observe(patch)
        return run_program()


@pytest.fixture(scope="module")
def drifted(project: Path) -> Run:
    """A run that finds one VM changed."""
    with pytest.MonkeyPatch.context() as patch:
        observe(patch)["billing-1"] = DRIFTED
        return run_program()


def commands(done: Run) -> dict[str, str]:
    return {
        f"{vm}-{step}": done[f"{vm}-{step}"].inputs["create"]
        for vm in ("billing-1", "billing-2", "ledger-1")
        for step in STEPS
    }


def test_a_difference_is_that_vms_change_with_its_lines(looked: Run, drifted: Run, observed: dict[str, Found]) -> None:
    before, after = commands(looked), commands(drifted)
    assert {name for name in after if after[name] != before[name]} == {f"billing-1-{step}" for step in STEPS}
    for line in DRIFTED.record:
        assert f"\ndrift: {line}\n" in after["billing-1-configure"]
    observed["billing-1"] = REPAIRED
    assert commands(run_program()) == after, "a repaired VM must be no change"


def test_without_it_the_commands_are_the_same_and_nobody_looks(looked: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STACK["hosts"], "observe", False)
    monkeypatch.setattr(reader, "look", lambda targets: pytest.fail("it looked"))
    blind = run_program()
    assert commands(blind) == commands(looked)
    assert not any("create" in resource.ignored for resource in blind.monitor.registered.values())


def test_a_vm_that_was_not_looked_at_keeps_its_commands(
    observed: dict[str, Found], caplog: pytest.LogCaptureFixture
) -> None:
    observed["billing-2"] = SILENT
    done = run_program(preview=True)
    ignoring = {name for name, resource in done.monitor.registered.items() if "create" in resource.ignored}
    assert ignoring == {f"billing-2-{step}" for step in STEPS}
    assert "vm billing-2 was not looked at: ssh to 10.77.0.22:22: no answer within 9 s" in caplog.text


def test_a_preview_says_drifted_and_why_and_an_up_does_not(drifted: Run, observed: dict[str, Found]) -> None:
    observed["billing-1"] = DRIFTED
    vms = run_program(preview=True).values["registration"]["vms"]
    assert {name: vm["state"] for name, vm in vms.items()} == {
        "billing-1": "drifted",
        "billing-2": "healthy",
        "ledger-1": "registered",
    }
    assert vms["billing-1"]["reason"] == "not as it was left: istio.service"
    assert vms["billing-1"]["complete"] is False
    assert drifted.values["registration"]["vms"]["billing-1"]["state"] == "healthy"
