"""The real sources: what the cluster and ssh are asked, and what becomes of their answers."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fake_cluster import FakeCluster

from cluster.errors import ApiError
from hosts import ssh
from hosts.login import SshTarget
from hosts.ssh import Answer
from migration.reader import Page, Sources
from migration.stack import live_sources
from settings import Settings

CLUSTER = FakeCluster()


@pytest.fixture
def sources() -> Sources:
    vms = {name: SimpleNamespace(address=f"10.77.0.2{name[-1]}") for name in ("billing-1", "billing-2", "billing-3")}
    stack = SimpleNamespace(
        cluster=SimpleNamespace(kubeconfig=".lab/kubeconfig", context=None),
        workloads={"billing": SimpleNamespace(vms=vms)},
        connections={
            name: SimpleNamespace(
                port=22, user=f"login to {name}", host_key="", agent=True, agent_socket=None, bastion=None
            )
            for name in vms
        },
    )
    return live_sources(cast(Settings, stack), CLUSTER)


def test_a_pods_proxy_is_asked_in_its_container(sources: Sources) -> None:
    command = (
        r"pilot-agent request GET stats/prometheus?usedonly&filter=^cluster\.inbound\|.*\.upstream_rq_.xx$"
        "|istio_requests_total"
    )
    CLUSTER.answers = {f"vm-apps/billing-7d4b/istio-proxy: {command}": "a page"}
    assert sources.pod("vm-apps", "billing-7d4b", 5) == Page(text="a page")


def test_a_pod_that_gives_no_counters_says_why(sources: Sources) -> None:
    CLUSTER.answers = lambda path: ApiError("pod vm-apps/a: pilot-agent did not end within 0.2 s")
    assert sources.pod("vm-apps", "a", 0.2) == Page(unread="pod vm-apps/a: pilot-agent did not end within 0.2 s")


def test_vms_are_asked_as_the_stack_logs_in_to_them(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(targets: Mapping[str, SshTarget], commands: Mapping[str, str], seconds: float) -> dict[str, Answer]:
        assert {name: (t.vm.host, t.vm.user) for name, t in targets.items()} == {
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

    monkeypatch.setattr(ssh, "ask", ask)
    assert sources.vms(["billing-1", "billing-2", "billing-3"], 7) == {
        "billing-1": Page(text="a page"),
        "billing-2": Page(unread="ssh to 10.77.0.22:22: connection refused"),
        "billing-3": Page(unread="failed: dial tcp 127.0.0.1:15000: refused"),
    }


def test_without_vms_nobody_is_asked(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ssh, "ask")
    assert sources.vms([], 7) == {}
