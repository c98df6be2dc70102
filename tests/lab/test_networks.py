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
BALANCER, NODE = "10.77.0.200", "10.77.0.10"


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


def reaches_a_pod_through(gateway: str, lab: Lab, kubectl: Kubectl) -> None:
    """The VM reaches a pod by its service's name, and by the gateway's address and port alone."""
    with pods.meshed_pod(kubectl) as pod:
        way = lab.vm_exec(HOST.name, ["ip", "-4", "route", "show", "via", NODE])
        assert (way.returncode, way.stdout) == (0, ""), "there is no other way"
        prefix = ssh_argv(HOST.address, [])
        eventually(
            lambda: curl(prefix, "http://hello.traffic/").stdout.startswith("Hello version: pod, instance: hello-"),
            seconds=30,
            what="the VM reaches the pod by its service's name",
        )
        clusters = lab.vm_exec(HOST.name, ["curl", "-s", "localhost:15000/clusters"]).stdout
        hello = {line.split("::")[1] for line in clusters.splitlines() if "hello.traffic" in line}
        assert gateway in hello
        assert f"{pod}:8080" not in hello


def test_through_the_gateway_from_another_network(far: Stack, lab: Lab, kubectl: Kubectl) -> None:
    far.up()
    assert set(far.states().values()) == {"healthy"}
    assert far.outputs()["registration"]["vms"][HOST.name]["workloadEntry"] == f"far-{HOST.address}-net2"
    assert changes(far.preview()) == {}
    reaches_a_pod_through(f"{BALANCER}:15443", lab, kubectl)


def test_through_node_ports_with_the_networks_given_by_hand(far: Stack, lab: Lab, kubectl: Kubectl) -> None:
    far.config["eastWestGateway"] |= {"service": "NodePort", "nodePorts": {"services": 31443}}
    network = {"endpoints": [{"fromRegistry": "cluster1"}], "gateways": [{"address": NODE, "port": 31443}]}
    far.config["istio"]["values"]["global"] = {"meshNetworks": {"net1": network}}
    far.up()
    assert set(far.states().values()) == {"healthy"}
    reaches_a_pod_through(f"{NODE}:31443", lab, kubectl)
