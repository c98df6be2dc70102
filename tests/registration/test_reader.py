"""The reader: what it asks, how long it waits, and that it always has a report."""

import json
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from registration.pipe import dump
from registration.request import Request

from registration.ladder import DeclaredVm, Evidence, Reachability
from registration.reader import ENTRIES, ApiError, Sources, kubectl_get, read, tcp_probe

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


def request(*vms: DeclaredVm, deadline: float = 0, evidence: Mapping[str, Evidence] | None = None) -> Request:
    return Request(
        vms=vms, evidence={vm.name: DONE for vm in vms} if evidence is None else evidence, deadline_seconds=deadline
    )


def states(report: dict[str, Any]) -> dict[str, str]:
    return {name: vm["state"] for name, vm in report["vms"].items()}


def test_healthy_vms_cost_one_question_and_no_probe() -> None:
    world = World(lambda _: [entry(ONE), entry(TWO)])
    report, error = read(request(ONE, TWO, deadline=60), world.sources)
    assert (states(report), error) == ({"billing-1": "healthy", "billing-2": "healthy"}, "")
    assert report["summary"] == {"healthy": 2}
    assert (world.asked, world.probed, world.elapsed) == ([ENTRIES], [], 0)


def test_only_doubtful_vms_are_probed_at_their_port() -> None:
    vm = DeclaredVm(**{**vars(TWO), "ssh_port": 2222})
    world = World(lambda _: [entry(ONE)])
    read(request(ONE, vm, evidence={}), world.sources)
    assert world.probed == [("10.77.0.22", 2222)]


def test_it_waits_for_a_vm_just_set_up_and_no_longer_than_needed() -> None:
    world = World(lambda elapsed: [entry(ONE)] if elapsed >= 4 else [])
    report, _ = read(request(ONE, deadline=60), world.sources)
    assert states(report) == {"billing-1": "healthy"}
    assert world.elapsed == 4


def test_it_gives_up_at_the_deadline() -> None:
    world = World(lambda _: [])
    report, _ = read(request(ONE, deadline=10), world.sources)
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
def test_it_does_not_wait_in_vain(world: World, asked: Request) -> None:
    read(asked, world.sources)
    assert world.elapsed == 0


def test_one_failed_vm_leaves_the_other_whole() -> None:
    world = World(lambda elapsed: [entry(TWO)] if elapsed >= 1 else [], silent=ONE.address)
    found = {ONE.name: Evidence(failed="billing-1-configure"), TWO.name: DONE}
    report, _ = read(request(ONE, TWO, deadline=60, evidence=found), world.sources)
    assert states(report) == {"billing-1": "unreachable", "billing-2": "healthy"}
    assert "billing-1-configure" in report["vms"]["billing-1"]["hint"]


def test_pods_are_asked_for_only_where_a_mark_is_old() -> None:
    world = World(lambda _: [entry(ONE, connected=START - timedelta(hours=1))])
    report, _ = read(request(ONE), world.sources)
    assert states(report) == {"billing-1": "healthy"}
    assert world.asked == [ENTRIES, "/api/v1/namespaces/istio-system/pods?labelSelector=app%3Distiod"]


def test_no_api_still_gives_a_report() -> None:
    def down(elapsed: float) -> list[dict[str, Any]]:
        raise ApiError("the Kubernetes API gave no answer: refused")

    world = World(down)
    report, error = read(request(ONE, deadline=60), world.sources)
    assert states(report) == {"billing-1": "configured"}
    assert report["vms"]["billing-1"]["reason"] == error == "the Kubernetes API gave no answer: refused"


def test_the_report_shows_the_certificate_and_nothing_else_of_the_evidence() -> None:
    world = World(lambda _: [entry(ONE)])
    found = {ONE.name: Evidence(configured=True, confirmed={"certificate": {"serial": "0a", "key": "K"}, "x": "y"})}
    report, _ = read(request(ONE, evidence=found), world.sources)
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


def fake_kubectl(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    tool = folder / "kubectl"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_kubectl_gets_kubeconfig_and_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_kubectl(tmp_path, monkeypatch, 'printf \'{"args": "%s"}\' "$*"')
    answer = kubectl_get(".lab/kubeconfig", "lab")(ENTRIES)
    assert answer == {"args": f"--request-timeout=5s --kubeconfig=.lab/kubeconfig --context=lab get --raw {ENTRIES}"}


def test_kubectl_not_found_means_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_kubectl(tmp_path, monkeypatch, 'echo "Error from server (NotFound): no such" >&2; exit 1')
    assert kubectl_get(None, None)(ENTRIES) is None


def test_kubectl_failure_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_kubectl(tmp_path, monkeypatch, 'printf "E1121 noise\\nThe connection was refused\\n" >&2; exit 1')
    with pytest.raises(ApiError, match=r"^the Kubernetes API gave no answer: The connection was refused$"):
        kubectl_get(None, None)(ENTRIES)


def test_kubectl_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ApiError, match="kubectl is not on PATH"):
        kubectl_get(None, None)(ENTRIES)


def test_tcp_probe() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert tcp_probe("127.0.0.1", port) == Reachability(reachable=True)
    assert tcp_probe("127.0.0.1", port) == Reachability(reachable=False, detail=f"127.0.0.1:{port}: connection refused")


def test_as_the_program_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_kubectl(
        tmp_path,
        monkeypatch,
        f"printf %s {shlex.quote(json.dumps({'items': [entry(ONE, connected=datetime.now(UTC))]}))}",
    )
    done = subprocess.run(
        [sys.executable, "-m", "registration.reader"],
        input=dump(request(ONE)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["vms"]["billing-1"]["workloadEntry"] == "billing-10.77.0.21"
    assert done.stderr == ""
