"""The reader: what it asks, how long it waits, and that it always has a report."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cluster.errors import ApiError
from cluster.objects import ENTRIES
from registration.ladder import DeclaredVm, Evidence, Reachability
from registration.reader import Sources, read, tcp_probe

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
ONE = DeclaredVm(name="billing-1", namespace="vm-apps", workload="billing", address="10.77.0.21", has_probe=True)
TWO = DeclaredVm(name="billing-2", namespace="vm-apps", workload="billing", address="10.77.0.22", has_probe=True)
DONE = Evidence(configured=True, confirmed={"certificate": {"serial": "0a", "notAfter": "2026-11-22T12:00:00Z"}})


def entry(vm: DeclaredVm, healthy: bool = True, connected: datetime = START) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"{vm.workload}-{vm.address}",
            "namespace": vm.namespace,
            "creationTimestamp": "2026-11-21T11:00:00Z",
            "annotations": {
                "istio.io/connectedAt": connected.isoformat(),
                "istio.io/workloadController": "istiod-1",
                "proxy.istio.io/health-checks-enabled": "true",
            },
        },
        "spec": {"address": vm.address},
        "status": {"conditions": [{"type": "Healthy", "status": str(healthy)}]},
    }


class World:
    """A clock, an API and a network that a test moves."""

    def __init__(
        self, answers: Callable[[float], list[dict[str, Any]]], reachable: bool = True, silent: str = ""
    ) -> None:
        self.elapsed = 0.0
        self.asked: list[str] = []
        self.probed: list[tuple[str, int]] = []
        self.answers = answers
        self.reachable = reachable
        self.silent = silent

    def get(self, path: str) -> Mapping[str, Any] | None:
        self.asked.append(path)
        if path == ENTRIES:
            return {"items": self.answers(self.elapsed)}
        return {"items": [{"metadata": {"name": "istiod-1"}, "status": {"phase": "Running"}}]}

    def probe(self, address: str, port: int) -> Reachability:
        self.probed.append((address, port))
        reachable = self.reachable and address != self.silent
        return Reachability(reachable=reachable, detail="" if reachable else "silent")

    def sleep(self, seconds: float) -> None:
        self.elapsed += seconds

    @property
    def sources(self) -> Sources:
        return Sources(
            get=self.get, probe=self.probe, now=lambda: START + timedelta(seconds=self.elapsed), sleep=self.sleep
        )


@dataclass(frozen=True)
class Asked:
    """Whose registration, and how long to wait for it."""

    vms: tuple[DeclaredVm, ...]
    evidence: Mapping[str, Evidence]
    deadline: float

    def read(self, sources: Sources) -> tuple[dict[str, Any], str]:
        return read(self.vms, self.evidence, sources, self.deadline)


def request(*vms: DeclaredVm, deadline: float = 0, evidence: Mapping[str, Evidence] | None = None) -> Asked:
    return Asked(vms, {vm.name: DONE for vm in vms} if evidence is None else evidence, deadline)


def states(report: dict[str, Any]) -> dict[str, str]:
    return {name: vm["state"] for name, vm in report["vms"].items()}


def test_healthy_vms_cost_one_question_and_no_probe() -> None:
    world = World(lambda _: [entry(ONE), entry(TWO)])
    report, error = request(ONE, TWO, deadline=60).read(world.sources)
    assert (states(report), error) == ({"billing-1": "healthy", "billing-2": "healthy"}, "")
    assert report["summary"] == {"healthy": 2}
    assert (world.asked, world.probed, world.elapsed) == ([ENTRIES], [], 0)


def test_only_doubtful_vms_are_probed_at_their_port() -> None:
    vm = DeclaredVm(**{**vars(TWO), "ssh_port": 2222})
    world = World(lambda _: [entry(ONE)])
    request(ONE, vm, evidence={}).read(world.sources)
    assert world.probed == [("10.77.0.22", 2222)]


def test_it_waits_for_a_vm_just_set_up_and_no_longer_than_needed() -> None:
    world = World(lambda elapsed: [entry(ONE)] if elapsed >= 4 else [])
    report, _ = request(ONE, deadline=60).read(world.sources)
    assert states(report) == {"billing-1": "healthy"}
    assert world.elapsed == 4


def test_it_gives_up_at_the_deadline() -> None:
    world = World(lambda _: [])
    report, _ = request(ONE, deadline=10).read(world.sources)
    assert states(report) == {"billing-1": "configured"}
    assert world.elapsed == 10


@pytest.mark.parametrize(
    ("world", "asked"),
    [
        (World(lambda _: []), request(ONE, deadline=0)),
        (World(lambda _: []), request(ONE, deadline=60, evidence={})),
        (World(lambda _: [], reachable=False), request(ONE, deadline=60)),
        (World(lambda _: []), request(ONE, deadline=60, evidence={ONE.name: Evidence(failed="billing-1-enrol")})),
    ],
    ids=["preview", "not set up", "unreachable", "failed"],
)
def test_it_does_not_wait_in_vain(world: World, asked: Asked) -> None:
    asked.read(world.sources)
    assert world.elapsed == 0


def test_one_failed_vm_leaves_the_other_whole() -> None:
    world = World(lambda elapsed: [entry(TWO)] if elapsed >= 1 else [], silent=ONE.address)
    found = {ONE.name: Evidence(failed="billing-1-configure"), TWO.name: DONE}
    report, _ = request(ONE, TWO, deadline=60, evidence=found).read(world.sources)
    assert states(report) == {"billing-1": "unreachable", "billing-2": "healthy"}
    assert "billing-1-configure" in report["vms"]["billing-1"]["hint"]


def test_pods_are_asked_for_only_where_a_mark_is_old() -> None:
    world = World(lambda _: [entry(ONE, connected=START - timedelta(hours=1))])
    report, _ = request(ONE).read(world.sources)
    assert states(report) == {"billing-1": "healthy"}
    assert world.asked == [ENTRIES, "/api/v1/namespaces/istio-system/pods?labelSelector=app%3Distiod"]


def test_no_api_still_gives_a_report() -> None:
    def down(elapsed: float) -> list[dict[str, Any]]:
        raise ApiError("the Kubernetes API refuses connections")

    world = World(down)
    report, error = request(ONE, deadline=60).read(world.sources)
    assert states(report) == {"billing-1": "configured"}
    assert report["vms"]["billing-1"]["reason"] == error == "the Kubernetes API refuses connections"


def test_the_report_shows_the_certificate_and_nothing_else_of_the_evidence() -> None:
    world = World(lambda _: [entry(ONE)])
    found = {ONE.name: Evidence(configured=True, confirmed={"certificate": {"serial": "0a", "key": "K"}, "x": "y"})}
    report, _ = request(ONE, evidence=found).read(world.sources)
    assert report["vms"]["billing-1"] == {
        "namespace": "vm-apps",
        "workload": "billing",
        "address": "10.77.0.21",
        "workloadEntry": "billing-10.77.0.21",
        "state": "healthy",
        "complete": True,
        "since": "2026-11-21T11:00:00Z",
        "reason": "",
        "hint": "",
        "certificate": {"serial": "0a"},
    }


def test_tcp_probe() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert tcp_probe("127.0.0.1", port) == Reachability(reachable=True)
    assert tcp_probe("127.0.0.1", port) == Reachability(reachable=False, detail=f"127.0.0.1:{port}: connection refused")
