"""A VM without a sidecar: clients in a STRICT mesh reach it by its workload's service, and nobody logs in to it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pods
import pytest
from pods import curl
from stack import PROJECT, Kubectl, Stack, changes, eventually

from lab.runtime import Lab
from lab.spec import VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(300)]

LEGACY = VmSpec(name="legacy-1", address="10.77.0.100", version="v0")
HELLO = {f"Hello version: v1, instance: billing-{n}" for n in (1, 2)} | {"Hello version: v0, instance: legacy-1"}
LEFT_BEHIND = "ls -d /etc/istio /var/lib/istio /usr/local/lib/istio-vm-mesh /var/lib/istio-vm-mesh 2>/dev/null; true"


@pytest.fixture
def legacy(lab: Lab) -> Iterator[VmSpec]:
    lab.add_vm(LEGACY)
    yield LEGACY
    lab.remove_vm(LEGACY.name)


def registered(stack: Stack) -> tuple[int, dict[str, dict[str, object]]]:
    """The exit code and the report of the command that `make up` ends with."""
    stack.write()
    argv = [sys.executable, "-m", "registration", "--stack-file", str(stack.file), "--json"]
    done = subprocess.run(
        argv, cwd=PROJECT, env=dict(stack.environment), capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, json.loads(done.stdout)["vms"]


def test_a_static_vm_serves_the_mesh_untouched(stack: Stack, lab: Lab, kubectl: Kubectl, legacy: VmSpec) -> None:
    def sshd() -> str:
        return lab.vm_exec(legacy.name, ["journalctl", "-u", "ssh", "--no-pager", "-o", "cat"]).stdout

    def answers() -> set[str]:
        done = [curl(pods.in_pod(kubectl), "http://billing.vm-apps/") for _ in range(9)]
        assert not [answer.stderr for answer in done if answer.returncode]
        return {answer.stdout.strip() for answer in done}

    logged = sshd()
    stack.billing["vms"][legacy.name] = {"address": legacy.address, "static": True, "weight": 1}
    assert changes(stack.preview()) == {"legacy-1-static": "create"}
    stack.up()
    assert changes(stack.preview()) == {}

    report = stack.outputs()["registration"]
    assert report["summary"] == {"reachable": 1, "healthy": 2}
    vm = report["vms"][legacy.name]
    assert (vm["state"], vm["complete"], vm["static"], vm["workloadEntry"]) == ("reachable", True, True, "legacy-1")
    assert registered(stack)[0] == 0
    with pods.meshed_pod(kubectl):  # the mesh is STRICT, and no DestinationRule speaks of the host
        eventually(lambda: answers() == HELLO, seconds=30, what="a meshed pod reaches all three VMs by name")
    assert sshd() == logged, "somebody has connected to the VM by ssh"
    assert lab.vm_exec(legacy.name, ["sh", "-c", LEFT_BEHIND]).stdout == ""

    lab.vm_exec(legacy.name, ["systemctl", "stop", "hello"])
    code, vms = registered(stack)
    assert (code, vms[legacy.name]["state"]) == (1, "unreachable")
    assert vms[legacy.name]["reason"] == "10.77.0.100:8080: connection refused"
    lab.vm_exec(legacy.name, ["systemctl", "start", "hello"])

    del stack.billing["vms"][legacy.name]
    assert changes(stack.preview()) == {"legacy-1-static": "delete"}
    stack.up()
    entries = json.loads(kubectl("get", "workloadentries", "-n", "vm-apps", "-o", "json"))["items"]
    assert {entry["spec"]["address"] for entry in entries} == {"10.77.0.21", "10.77.0.22"}
    assert stack.states() == {"billing-1": "healthy", "billing-2": "healthy"}
    assert sshd() == logged


def test_a_static_vm_gets_a_sidecar_and_gives_it_back(stack: Stack, lab: Lab, kubectl: Kubectl, legacy: VmSpec) -> None:
    def entries() -> list[str]:
        items = json.loads(kubectl("get", "workloadentries", "-n", "vm-apps", "-o", "json"))["items"]
        return [item["metadata"]["name"] for item in items if item["spec"]["address"] == legacy.address]

    static = {"address": legacy.address, "static": True, "weight": 1}
    stack.billing["vms"][legacy.name] = static
    stack.up()
    stack.billing["vms"][legacy.name] = {"address": legacy.address}
    stack.up()
    assert stack.states() == {"billing-1": "healthy", "billing-2": "healthy", legacy.name: "healthy"}
    assert len(entries()) == 1
    assert entries() != [legacy.name]
    assert changes(stack.preview()) == {}
    stack.billing["vms"][legacy.name] = static
    stack.up()
    assert stack.states() == {"billing-1": "healthy", "billing-2": "healthy", legacy.name: "reachable"}
    assert entries() == [legacy.name]
    assert lab.vm_exec(legacy.name, ["sh", "-c", LEFT_BEHIND]).stdout == ""
    assert changes(stack.preview()) == {}
