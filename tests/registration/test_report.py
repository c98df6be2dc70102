"""The report, and the evidence that goes into it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from registration.ladder import DeclaredVm, Evidence, State, VmState
from registration.report import evidence_of, report
from registration.table import summary, table

VM = DeclaredVm(name="billing-1", namespace="vm-apps", workload="billing", address="10.77.0.21", network="net1")
CONFIRMED = 'starting\n{"ready": true, "certificate": {"serial": "0a", "notAfter": "2026-11-22T12:00:00Z"}}\n'
CERTIFICATE = {"serial": "0a", "notAfter": "2026-11-22T12:00:00Z"}


@pytest.mark.parametrize(
    ("steps", "preview", "expected"),
    [
        (
            {"vm-configure": "done", "vm-confirm": CONFIRMED},
            False,
            Evidence(configured=True, confirmed={"ready": True, "certificate": CERTIFICATE}),
        ),
        ({"vm-configure": "done", "vm-confirm": "no evidence"}, False, Evidence(configured=True, confirmed={})),
        ({"vm-configure": "done", "vm-enrol": None, "vm-confirm": None}, False, Evidence(failed="vm-enrol")),
        ({"vm-configure": None, "vm-confirm": CONFIRMED}, False, Evidence(failed="vm-configure")),
        ({"vm-configure": None, "vm-confirm": None}, True, Evidence(pending=True)),
        (
            {"vm-configure": None, "vm-confirm": CONFIRMED},
            True,
            Evidence(configured=True, confirmed={"ready": True, "certificate": CERTIFICATE}),
        ),
    ],
)
def test_evidence_of(steps: dict[str, str | None], preview: bool, expected: Evidence) -> None:
    assert evidence_of(steps, preview=preview) == expected


def two_vms() -> dict[str, Any]:
    other = DeclaredVm(name="billing-2", namespace="vm-apps", workload="billing", address="10.77.0.22", has_probe=True)
    evidence = {VM.name: Evidence(configured=True, confirmed={"certificate": CERTIFICATE})}
    states = {
        VM.name: VmState(state=State.REGISTERED, since="2026-11-21T11:00:00.5Z"),
        other.name: VmState(state=State.UNREACHABLE, reason="silent", hint="turn it on"),
    }
    return report([VM, other], evidence, states)


def test_summary_counts_states_in_the_ladders_order() -> None:
    assert list(two_vms()["summary"].items()) == [("registered", 1), ("unreachable", 1)]
    assert summary(two_vms()) == "2 VMs: 1 registered, 1 unreachable"


def test_complete_depends_on_the_probe() -> None:
    assert {name: vm["complete"] for name, vm in two_vms()["vms"].items()} == {"billing-1": True, "billing-2": False}


def test_a_preview_takes_no_certificate_away_that_will_be_read_again() -> None:
    pending = {VM.name: Evidence(pending=True)}
    (vm,) = report([VM], pending, {VM.name: VmState(state=State.HEALTHY)})["vms"].values()
    assert vm["certificate"] == "known after up"


def test_table() -> None:
    drawn = table(two_vms(), datetime(2026, 11, 21, 12, 0, tzinfo=UTC))
    header, first, second, hint = drawn.splitlines()
    columns = "VM         WORKLOAD         ADDRESS     STATE        SINCE                CERTIFICATE (EXPIRES)  "
    assert header == columns + "REASON / NEXT STEP"
    assert first == "billing-1  vm-apps/billing  10.77.0.21  registered   2026-11-21 11:00:00  2026-11-22 12:00:00    -"
    assert second.split() == ["billing-2", "vm-apps/billing", "10.77.0.22", "unreachable", "-", "-", "silent"]
    assert hint == " " * len(columns) + "-> turn it on"


def test_a_certificate_seen_long_ago_has_been_renewed() -> None:
    assert "renewed since" in table(two_vms(), datetime(2026, 11, 23, tzinfo=UTC))
