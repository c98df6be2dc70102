"""Three VMs that serve are changed one after the other while they are called, and a change that fails stops."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import packages
import pods
import pytest
from stack import Kubectl, Stack, changes, committed_config, eventually, ssh_argv

from lab.runtime import Lab
from lab.spec import VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

VMS = tuple(VmSpec(name=f"waves-{n}", address=f"10.77.0.{89 + n}") for n in (1, 2, 3))
WORKLOAD: dict[str, Any] = {
    "namespace": "vm-waves",
    "serviceAccount": "waves",
    "labels": {"app": "waves", "version": "v1"},
    "ports": {"http": 8080},
    "probe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 2},
    "service": {"ports": {"http": 80}},
    "vms": {vm.name: {"address": vm.address} for vm in VMS},
}


@pytest.fixture(scope="module")
def waves(dev_stack: Stack, lab: Lab) -> Iterator[Stack]:
    """The dev stack with a workload of three VMs besides."""
    for vm in VMS:
        lab.add_vm(vm)
    dev_stack.config["workloads"]["waves"] = WORKLOAD
    begin = time.monotonic()
    dev_stack.up()
    assert time.monotonic() - begin < 60, "first joins wait for nobody"
    yield dev_stack
    dev_stack.config = committed_config()
    dev_stack.up()
    for vm in VMS:
        lab.remove_vm(vm.name)


@pytest.fixture(scope="module")
def caller(waves: Stack, kubectl: Kubectl) -> Iterator[list[str]]:
    """What runs a command in a pod that reaches all three."""
    with pods.meshed_pod(kubectl):
        prefix = pods.in_pod(kubectl)

        def all_answer() -> bool:
            said = {pods.curl(prefix, "http://waves.vm-waves/").stdout for _ in range(12)}
            return len([answer for answer in said if "instance: waves-" in answer]) == len(VMS)

        eventually(all_answer, seconds=30, what="all three VMs answer a meshed pod")
        yield prefix


def entries(kubectl: Kubectl) -> dict[str, dict[str, Any]]:
    """The workload's WorkloadEntries by VM."""
    items = json.loads(kubectl("get", "workloadentries", "-n", "vm-waves", "-o", "json"))["items"]
    names = {vm.address: vm.name for vm in VMS}
    return {names[item["spec"]["address"]]: item for item in items}


def serving(kubectl: Kubectl) -> set[str]:
    """VMs whose entry is healthy."""
    return {
        name
        for name, item in entries(kubectl).items()
        for condition in item.get("status", {}).get("conditions", [])
        if condition["type"] == "Healthy" and condition["status"] == "True"
    }


@dataclass
class Watch:
    """What was seen while a change went on."""

    answers: list[str] = field(default_factory=list)
    """HTTP codes."""
    away: list[set[str]] = field(default_factory=list)

    @property
    def failed(self) -> list[str]:
        return [answer for answer in self.answers if not answer.startswith("200 ")]


@contextlib.contextmanager
def watched(caller: list[str], kubectl: Kubectl) -> Iterator[Watch]:
    """Call the workload all the time, and look who serves."""
    seen, done = Watch(), threading.Event()
    loop = (
        "while :; do curl -s -o /dev/null -w '%{http_code} %{errormsg}\\n' --max-time 5 http://waves.vm-waves/;"
        " sleep 0.05; done"
    )
    calls = subprocess.Popen([*caller, "sh", "-c", loop], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert calls.stdout is not None
    lines = calls.stdout

    def look() -> None:
        while not done.is_set():
            seen.away.append({vm.name for vm in VMS} - serving(kubectl))
            time.sleep(0.5)

    threads = [threading.Thread(target=look), threading.Thread(target=lambda: seen.answers.extend(lines))]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        done.set()
        calls.terminate()
        calls.wait(20)
        for thread in threads:
            thread.join(20)
        lines.close()


def on_vm(vm: VmSpec, *command: str) -> str:
    done = subprocess.run(ssh_argv(vm.address, command), capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def installed(vm: VmSpec) -> str:
    return on_vm(vm, "dpkg-query", "-W", "-f", "'${Version}'", "istio-sidecar")


def since_start(vm: VmSpec) -> str:
    return on_vm(vm, "systemctl", "show", "istio", "-p", "ActiveEnterTimestamp")


@pytest.mark.long
def test_a_label_reaches_every_vm_and_no_call_fails(waves: Stack, caller: list[str], kubectl: Kubectl) -> None:
    before = entries(kubectl)
    waves.config["workloads"]["waves"]["labels"]["version"] = "v2"
    with watched(caller, kubectl) as seen:
        waves.up()
    after = entries(kubectl)
    assert {item["spec"]["labels"]["version"] for item in after.values()} == {"v2"}
    assert all(after[vm.name]["metadata"]["uid"] != before[vm.name]["metadata"]["uid"] for vm in VMS)
    assert {vm for away in seen.away for vm in away} == {vm.name for vm in VMS}, "each was away, else this sees nothing"
    assert max(len(away) for away in seen.away) == 1, seen.away
    assert len(seen.answers) > 100
    assert seen.failed == []
    assert changes(waves.preview()) == {}


@pytest.mark.long
def test_an_upgrade_reaches_every_vm_in_waves(waves: Stack, caller: list[str], kubectl: Kubectl) -> None:
    workload = waves.config["workloads"]["waves"]
    workload["rollout"] = {"maxUnavailable": "67%"}  # of three: two, then one
    with packages.another_version("1.31.1-2") as package, watched(caller, kubectl) as seen:
        workload["sidecar"] = package
        waves.up()
    del workload["rollout"]
    assert [installed(vm) for vm in VMS] == ["1.31.1-2"] * 3
    assert serving(kubectl) == {vm.name for vm in VMS}
    assert max(len(away) for away in seen.away) == 2
    assert seen.failed == []


def test_an_upgrade_that_fails_stops_there_and_the_next_one_goes_on(waves: Stack, kubectl: Kubectl) -> None:
    workload = waves.config["workloads"]["waves"]
    before = [installed(vm) for vm in VMS]
    untouched = since_start(VMS[2])
    with packages.another_version("1.31.1-3", fails_where="/run/no-envoy") as package:
        on_vm(VMS[1], "touch", "/run/no-envoy")
        workload["sidecar"] = package
        done = waves.run("up")
        said = done.stdout + done.stderr
        assert done.returncode != 0, said
        assert "Envoy" in said or "not ready" in said, said
        assert f"the package is istio-sidecar {before[1]} again" in said, said
        assert "the change of waves has stopped at waves-2, in wave 2 of 3" in said, said
        assert "changed: waves-1; left as they are: waves-3" in said, said
        assert [installed(vm) for vm in VMS] == ["1.31.1-3", before[1], before[2]]
        assert since_start(VMS[2]) == untouched
        everybody = {vm.name for vm in VMS}
        eventually(lambda: serving(kubectl) == everybody, seconds=60, what="waves-2 serves again with what it had")
        states = waves.states()
        assert (states["waves-1"], states["waves-2"], states["waves-3"]) == ("healthy", "failed", "failed")
        on_vm(VMS[1], "rm", "/run/no-envoy")
        waves.up()  # the same again: the cause is gone
        assert [installed(vm) for vm in VMS] == ["1.31.1-3"] * 3
        assert set(waves.states().values()) == {"healthy"}
        assert changes(waves.preview()) == {}
