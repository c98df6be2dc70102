"""The real sources: what kubectl and ssh are called with, and what becomes of their answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migration.reader import Page, Sources
from migration.stack import live_sources
from observation import reader
from observation.reader import Answer, Target
from settings import Settings


@pytest.fixture
def sources() -> Sources:
    vms = {name: SimpleNamespace(address=f"10.77.0.2{name[-1]}") for name in ("billing-1", "billing-2", "billing-3")}
    stack = SimpleNamespace(
        cluster=SimpleNamespace(kubeconfig=".lab/kubeconfig", context=None),
        workloads={"billing": SimpleNamespace(vms=vms)},
        connections={name: f"login to {name}" for name in vms},
    )
    return live_sources(cast(Settings, stack))


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tool = tmp_path / "kubectl"
    tool.touch(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tool


def test_a_pods_proxy_is_asked_in_its_container(sources: Sources, kubectl: Path) -> None:
    kubectl.write_text('#!/bin/sh\nprintf %s "$*"\n')
    assert sources.pod("vm-apps", "billing-7d4b", 5).text == (
        "--request-timeout=5s --kubeconfig=.lab/kubeconfig exec --namespace=vm-apps billing-7d4b"
        " --container=istio-proxy -- pilot-agent request GET "
        r"stats/prometheus?usedonly&filter=^cluster\.inbound\|.*\.upstream_rq_.xx$"
        "|istio_requests_total"
    )


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (
            "echo noise >&2; echo 'command terminated with exit code 1' >&2; exit 1",
            "command terminated with exit code 1",
        ),
        ("sleep 5", "the Kubernetes API did not answer within 0.2 s"),
    ],
)
def test_a_pod_that_gives_no_counters(sources: Sources, kubectl: Path, script: str, why: str) -> None:
    kubectl.write_text(f"#!/bin/sh\nexec 2>&2\n{script}\n")
    assert sources.pod("vm-apps", "a", 0.2) == Page(unread=f"kubectl exec: {why}")


def test_a_pod_that_is_gone(sources: Sources, kubectl: Path) -> None:
    kubectl.write_text("#!/bin/sh\necho 'Error from server (NotFound): pods \"a\" not found' >&2\nexit 1\n")
    assert sources.pod("vm-apps", "a", 5) == Page(unread="is gone")


def test_vms_are_asked_as_the_stack_logs_in_to_them(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(targets: Mapping[str, Target], commands: Mapping[str, str], seconds: float) -> dict[str, Answer]:
        assert {name: (t.address, t.connection) for name, t in targets.items()} == {
            name: (f"10.77.0.2{name[-1]}", f"login to {name}") for name in ("billing-1", "billing-2", "billing-3")
        }
        # Quoted for the VM's shell.
        (command,) = set(commands.values())
        assert command == (
            r"/usr/local/bin/pilot-agent request GET 'stats/prometheus?usedonly&filter=^cluster\.inbound\|"
            r".*\.upstream_rq_.xx$|istio_requests_total'"
        )
        assert seconds == 7
        answers: dict[str, Any] = {
            "billing-1": Answer(status=0, output="a page"),
            "billing-2": Answer(unknown="ssh to 10.77.0.22:22: connection refused"),
            "billing-3": Answer(status=1, errors="noise\nfailed: dial tcp 127.0.0.1:15000: refused\n"),
        }
        return answers

    monkeypatch.setattr(reader, "ask", ask)
    assert sources.vms(["billing-1", "billing-2", "billing-3"], 7) == {
        "billing-1": Page(text="a page"),
        "billing-2": Page(unread="ssh to 10.77.0.22:22: connection refused"),
        "billing-3": Page(unread="failed: dial tcp 127.0.0.1:15000: refused"),
    }


def test_without_vms_nobody_is_asked(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(reader, "ask")
    assert sources.vms([], 7) == {}
