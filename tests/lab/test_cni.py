"""Istio's CNI plugin on the lab's node: it redirects pods, so that none of them needs the right to do it itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pods import curl, in_pod, meshed_pod
from stack import Kubectl, Stack, changes, eventually

from components.cni import DAEMON_SET
from lab import commands
from lab.spec import ClusterSpec

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(420)]

BILLING = "http://billing.vm-apps.svc.cluster.local/"


def plugins() -> list[str]:
    """The CNI plugins that the node runs for a pod, in their order."""
    folder = commands.private_folder(ClusterSpec(1), commands.CNI_CONFIGURATION)
    (file,) = Path(folder).glob("*.conflist")
    return [plugin["type"] for plugin in json.loads(file.read_text())["plugins"]]


def redirected_by(kubectl: Kubectl) -> tuple[set[str], set[str]]:
    """The pod's init containers, and the rights that its containers are given."""
    (pod,) = json.loads(kubectl("-n", "traffic", "get", "pods", "-l", "app=hello", "-o", "json"))["items"]
    spec = pod["spec"]
    everything = [*spec["initContainers"], *spec["containers"]]
    rights = {
        right
        for container in everything
        for right in container.get("securityContext", {}).get("capabilities", {}).get("add", [])
    }
    return {container["name"] for container in spec["initContainers"]}, rights


def test_pods_are_redirected_by_the_plugin_and_need_no_rights(stack: Stack, kubectl: Kubectl) -> None:
    stack.config["istio"]["mutualTls"] = "STRICT"
    stack.config["istio"]["cni"] = {"enabled": True}
    plan = changes(stack.preview())
    assert plan["istio-cni"] == "create"
    assert not [name for name in plan if name.startswith("billing")]
    stack.up()
    assert stack.outputs()["mesh"]["controlPlane"]["workloads"][f"istio-system/{DAEMON_SET}"] == "ready"
    assert plugins()[-1] == "istio-cni"
    with meshed_pod(kubectl):
        made, rights = redirected_by(kubectl)
        assert "istio-validation" in made and "istio-init" not in made
        assert not rights
        # Only what went through the pod's own sidecar is answered: the VMs take no plain text.
        eventually(lambda: "Hello" in curl(in_pod(kubectl), BILLING).stdout, seconds=30, what="a VM answers the pod")
    assert changes(stack.preview()) == {}

    del stack.config["istio"]["cni"]
    stack.up()
    assert "istio-cni" not in plugins()
    assert kubectl("-n", "istio-system", "get", "daemonsets", "-o", "name") == ""
    with meshed_pod(kubectl):
        made, rights = redirected_by(kubectl)
        assert "istio-init" in made and "NET_ADMIN" in rights
        eventually(lambda: "Hello" in curl(in_pod(kubectl), BILLING).stdout, seconds=30, what="a VM answers the pod")
