"""A VM without a sidecar in the registration: how far it comes, on what evidence, and what counts as complete."""

from datetime import UTC, datetime
from typing import Any

import pytest

from registration.ladder import DeclaredVm, Evidence, Reachability
from registration.reader import Sources, read
from registration.report import evidence_of, report

VM = DeclaredVm(
    name="legacy-1", namespace="vm-apps", workload="billing", address="10.77.0.100", network="net1", static_port=8080
)
ENTRY = {
    "metadata": {"name": "legacy-1", "namespace": "vm-apps", "creationTimestamp": "2026-11-21T07:00:00Z"},
    "spec": {"address": "10.77.0.100"},
}
NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
REFUSED = Reachability(reachable=False, detail="10.77.0.100:8080: connection refused")


def seen(entries: list[dict[str, Any]], answer: Reachability, evidence: Evidence | None = None) -> dict[str, Any]:
    """What is reported of the VM; it must be probed at its application, and never be waited for."""
    probed: list[tuple[str, int]] = []

    def probe(address: str, port: int) -> Reachability:
        probed.append((address, port))
        return answer

    def sleep(seconds: float) -> None:
        raise AssertionError("waited")

    sources = Sources(get=lambda _: {"items": entries}, probe=probe, now=lambda: NOW, sleep=sleep)
    evidence = evidence or evidence_of({"legacy-1-static": "vm-apps/legacy-1"}, preview=False)
    found, _ = read([VM], {"legacy-1": evidence}, sources, 60)
    assert probed == [("10.77.0.100", 8080)]
    result: dict[str, Any] = found["vms"]["legacy-1"]
    return result


def test_it_is_complete_as_soon_as_clients_find_it_and_its_application_answers() -> None:
    assert seen([ENTRY], Reachability(reachable=True)) == {
        "namespace": "vm-apps",
        "workload": "billing",
        "address": "10.77.0.100",
        "workloadEntry": "legacy-1",
        "state": "reachable",
        "complete": True,
        "since": "2026-11-21T07:00:00Z",
        "reason": "",
        "hint": "",
        "static": True,
    }


@pytest.mark.parametrize(
    ("entries", "answer", "evidence", "state", "reason"),
    [
        ([], Reachability(reachable=True), None, "declared", "its WorkloadEntry is not there"),
        ([ENTRY], REFUSED, None, "unreachable", "10.77.0.100:8080: connection refused"),
        (
            [ENTRY],
            Reachability(reachable=True),
            evidence_of({"legacy-1-static": None}, preview=False),
            "failed",
            "legacy-1-static failed or did not run",
        ),
        (
            [{**ENTRY, "metadata": {"name": "billing-10.77.0.100-net1", "namespace": "vm-apps"}}],
            Reachability(reachable=True),
            None,
            "declared",
            "its WorkloadEntry is not there",
        ),
    ],
    ids=["no entry", "silent application", "failed", "the entry of a sidecar that was there before"],
)
def test_anything_less_is_not_complete(
    entries: list[dict[str, Any]], answer: Reachability, evidence: Evidence | None, state: str, reason: str
) -> None:
    found = seen(entries, answer, evidence)
    assert (found["state"], found["complete"], found["reason"]) == (state, False, reason)
    assert found["hint"]


def test_a_preview_promises_no_certificate() -> None:
    pending = evidence_of({"legacy-1-static": None}, preview=True)
    found = seen([], REFUSED, pending)
    assert (found["state"], "certificate" in found) == ("declared", False)


def test_it_counts_among_the_others() -> None:
    sources = Sources(get=lambda _: {"items": [ENTRY]}, probe=lambda *_: Reachability(reachable=True), now=lambda: NOW)
    found, _ = read([VM, DeclaredVm(name="b", namespace="n", workload="w", address="1")], {}, sources)
    assert found["summary"] == {"reachable": 2}
    assert [vm["complete"] for vm in found["vms"].values()] == [True, False]
    assert report([], {}, {}) == {"summary": {}, "vms": {}}


@pytest.mark.parametrize(
    ("answers", "state", "reason"),
    [(True, "declared", "not configured yet"), (False, "unreachable", "its bastion 10.77.0.9:2222: refused")],
)
def test_behind_a_bastion_only_the_bastion_can_be_probed(answers: bool, state: str, reason: str) -> None:
    vm = DeclaredVm(name="b", namespace="n", workload="w", address="10.77.0.21", bastion="10.77.0.9:2222")
    probed: list[tuple[str, int]] = []

    def probe(address: str, port: int) -> Reachability:
        probed.append((address, port))
        return Reachability(reachable=answers, detail="" if answers else f"{address}:{port}: refused")

    found, _ = read([vm], {}, Sources(get=lambda _: {"items": []}, probe=probe, now=lambda: NOW))
    assert (found["vms"]["b"]["state"], found["vms"]["b"]["reason"]) == (state, reason)
    assert probed == [("10.77.0.9", 2222)]
