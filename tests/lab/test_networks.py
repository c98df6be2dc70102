"""A VM in a network of its own reaches the pods through the east-west gateway, and nothing else leads there."""

from __future__ import annotations

from collections.abc import Iterator

import pods
import pytest
from pods import curl
from stack import Kubectl, Stack, changes, committed_config, eventually, ssh_argv

from lab.runtime import Lab, VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(600)]

HOST = VmSpec(name="far-1", address="10.77.0.47", routed=False)
BALANCER = "10.77.0.200"


@pytest.fixture
def far(stack: Stack, lab: Lab) -> Iterator[Stack]:
    """The stack with a workload in another network, whose VM has no way to pods and services."""
    lab.add_vm(HOST)
    stack.config["workloads"]["far"] = {
        "namespace": "vm-apps",
        "serviceAccount": "far",
        "network": "net2",
        "ports": {"http": 8080},
        "probe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 2},
        "service": {"ports": {"http": 80}},
        "vms": {HOST.name: {"address": HOST.address}},
    }
    yield stack
    stack.config = committed_config()
    stack.up()
    lab.remove_vm(HOST.name)


def test_through_the_gateway_from_another_network(far: Stack, lab: Lab, kubectl: Kubectl) -> None:
    far.up()
    assert set(far.states().values()) == {"healthy"}
    assert far.outputs()["registration"]["vms"][HOST.name]["workloadEntry"] == f"far-{HOST.address}-net2"
    assert changes(far.preview()) == {}
    with pods.meshed_pod(kubectl) as pod:
        way = lab.vm_exec(HOST.name, ["ip", "-4", "route", "show", "via", "10.77.0.10"])
        assert (way.returncode, way.stdout) == (0, ""), "there is no other way"
        prefix = ssh_argv(HOST.address, [])
        eventually(
            lambda: curl(prefix, "http://hello.traffic/").stdout.startswith("Hello version: pod, instance: hello-"),
            seconds=30,
            what="the VM reaches the pod by its service's name",
        )
        clusters = lab.vm_exec(HOST.name, ["curl", "-s", "localhost:15000/clusters"]).stdout
        hello = {line.split("::")[1] for line in clusters.splitlines() if "hello.traffic" in line}
        assert f"{BALANCER}:15443" in hello
        assert f"{pod}:8080" not in hello
