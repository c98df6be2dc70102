"""Hosts that are no Kubernetes Services: VMs and pods under one name, names outside the cluster, fixed endpoints."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from typing import Any

import pytest
from pods import curl
from stack import Kubectl, Stack, changes, eventually, ssh_argv

from lab.runtime import Lab
from lab.spec import VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.timeout(420)]

ON_VM = ssh_argv("10.77.0.21", [])
ALLOCATED = ipaddress.ip_network("240.240.0.0/16")
OUTSIDE = VmSpec(name="outside-1", address="10.77.0.101", version="outside")


def resolved(prefix: list[str], host: str) -> set[str]:
    """The IPv4 addresses that a host's name has there."""
    done = subprocess.run([*prefix, "getent", "ahostsv4", host], capture_output=True, text=True, timeout=30)
    return {line.split()[0] for line in done.stdout.splitlines()}


def answers(prefix: list[str], url: str, times: int = 9) -> set[str]:
    """Who answers."""
    return {curl(prefix, url).stdout.strip() for _ in range(times)}


def entries(kubectl: Kubectl) -> list[str]:
    items: list[dict[str, Any]] = json.loads(kubectl("get", "serviceentries", "-A", "-o", "json"))["items"]
    return [f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in items]


def test_a_workloads_host_outside_the_cluster_has_an_address_and_answers(stack: Stack, kubectl: Kubectl) -> None:
    stack.billing["service"]["host"] = "billing.mesh.internal"
    assert changes(stack.preview()) == {"billing-service": "delete", "billing-service-entry": "create"}
    stack.up()
    assert entries(kubectl) == ["vm-apps/billing"]
    both = {f"Hello version: v1, instance: billing-{n}" for n in (1, 2)}
    eventually(
        lambda: answers(ON_VM, "http://billing.mesh.internal/") == both, seconds=30, what="both VMs answer a VM by name"
    )
    (address,) = resolved(ON_VM, "billing.mesh.internal")
    assert ipaddress.ip_address(address) in ALLOCATED
    assert stack.outputs()["workloads"]["billing"]["host"] == "billing.mesh.internal"
    assert changes(stack.preview()) == {}

    del stack.billing["service"]["host"]
    stack.up()
    assert entries(kubectl) == []
    eventually(lambda: not resolved(ON_VM, "billing.mesh.internal"), seconds=30, what="the name is gone on the VM")


def test_fixed_endpoints_answer_until_they_are_taken_out(stack: Stack, lab: Lab, kubectl: Kubectl) -> None:
    lab.add_vm(OUTSIDE)
    try:
        stack.config["services"] = {
            "legacy": {
                "namespace": "vm-apps",
                "hosts": ["legacy.example.com"],
                "ports": {"http": 80},
                "targetPorts": {"http": 8080},
                "location": "MESH_EXTERNAL",
                "addresses": ["10.100.0.7"],
                "endpoints": [{"address": OUTSIDE.address}],
            }
        }
        assert changes(stack.preview()) == {"legacy": "create", "legacy-service-entry": "create"}
        stack.up()
        answer = {"Hello version: outside, instance: outside-1"}
        url = "http://legacy.example.com/"
        eventually(lambda: answers(ON_VM, url, 3) == answer, seconds=30, what="the fixed endpoint answers a VM")
        assert resolved(ON_VM, "legacy.example.com") == {"10.100.0.7"}
        assert stack.outputs()["services"] == {
            "legacy": {"hosts": ["legacy.example.com"], "ports": {"http": 80}, "namespace": "vm-apps"}
        }
        del stack.config["services"]
        assert changes(stack.preview()) == {"legacy": "delete", "legacy-service-entry": "delete"}
        stack.up()
        assert entries(kubectl) == []
        eventually(lambda: not resolved(ON_VM, "legacy.example.com"), seconds=30, what="the name is gone on the VM")
    finally:
        lab.remove_vm(OUTSIDE.name)
