"""What goes wrong while VMs join and leave: after one more `up` everything is as if it had not, and nothing is lost.

Faults of single machines are done to one VM each, all in the same run, and judged one by one.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from stack import Kubectl, Stack, changes, committed_config, eventually, reported

from lab import paths, processes
from lab.progress import Progress
from lab.runtime import Lab, LabSpec, VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.timeout(360)]

JOINING = ("configure", "membership", "enrol", "confirm")
"""The steps in which a run is killed, or the VM's plug is pulled."""
LEAVING = ("confirm", "enrol", "membership", "configure")
"""A run is killed around the deletion of these: before the VM leaves, while it does, and once it has."""
MIRRORED = paths.MIRROR / "faults.deb"
"""The package of one VM."""


@dataclass(frozen=True)
class Fault:
    """Something that is wrong with a machine."""

    do: str
    """Shell text that breaks it."""
    undo: str
    tells: tuple[str, ...]
    """What the user reads; the first is the error's code."""
    changes: bool = False
    """Whether the host has been changed before it shows."""


# The program takes tools from /usr/local/bin first, so this wrapper is the VM's clock: the kernel has only one for all.
WRONG_CLOCK = """printf '%s\\n' '#!/bin/sh' 'case " $* " in *" -d "*) exec /bin/date "$@" ;; esac' \
    'exec /bin/date -d "1 hour" "$@"' >/usr/local/bin/date; chmod 755 /usr/local/bin/date"""
FAULTS = {
    "disk-full": Fault(
        "mount -t tmpfs -o size=8m tmpfs /usr/local", "umount -l /usr/local", ("disk-full", "free some space")
    ),
    # There is room, but no file can be made: it shows only when the package is unpacked.
    "disk-fills-up": Fault(
        "mount -t tmpfs -o size=600m,nr_inodes=5 tmpfs /usr/local && mkdir /usr/local/bin",
        "umount -l /usr/local",
        ("package-install", "No space left on device"),
        changes=True,
    ),
    "wrong-file": Fault("", "", ("package-checksum", "has SHA-256")),
    "wrong-clock": Fault(WRONG_CLOCK, "rm /usr/local/bin/date", ("clock", "set the clock")),
    "hosts-immutable": Fault(
        "mount --bind /etc/hosts /etc/hosts && mount -o remount,ro,bind /etc/hosts",
        "umount /etc/hosts",
        ("failed", "Read-only file system"),
        changes=True,
    ),
}
NAMES = [
    *(f"killed-{step}" for step in JOINING),
    *(f"unplugged-{step}" for step in JOINING),
    *FAULTS,
    "istiod-down",
    "gateway-down",
    "api-down",
    "two-runs",
]
VMS = {name: VmSpec(name=name, address=f"10.77.0.{110 + n}") for n, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def stack(dev_stack: Stack, lab: Lab) -> Iterator[Stack]:
    """The dev stack, which grows by a VM with each fault; afterwards it is as committed again."""
    dev_stack.config = committed_config()
    # A dead VM is waited for until it would have taken the sidecar's start back.
    dev_stack.config["hosts"]["confirmWithin"] = 40
    dev_stack.up()
    Lab(LabSpec(vms=tuple(VMS.values()))).start(Progress())
    yield dev_stack
    dev_stack.config = committed_config()
    dev_stack.up()
    for name in VMS:
        lab.remove_vm(name)
    MIRRORED.unlink(missing_ok=True)


@pytest.fixture
def others(stack: Stack, kubectl: Kubectl) -> dict[str, str]:
    """The entries of the VMs that no fault concerns, before it."""
    return {address: uid for address, uid in entries(kubectl).items() if address in ("10.77.0.21", "10.77.0.22")}


def entries(kubectl: Kubectl) -> dict[str, str]:
    """Addresses and identities of all WorkloadEntries of the workload."""
    items = json.loads(kubectl("get", "workloadentries", "--namespace", "vm-apps", "-o", "json"))["items"]
    return {item["spec"]["address"]: item["metadata"]["uid"] for item in items}


def declare(stack: Stack, *names: str) -> None:
    for name in names:
        stack.billing["vms"][name] = {"address": VMS[name].address}


def recover(stack: Stack, lab: Lab, kubectl: Kubectl, others: dict[str, str]) -> None:
    """One more `up`, and everything is there once, as declared."""
    stack.up(timeout=150)
    assert set(stack.states().values()) == {"healthy"}, stack.states()
    assert changes(stack.preview()) == {}
    found = entries(kubectl)
    assert set(found) == {vm["address"] for vm in stack.billing["vms"].values()}
    assert found.items() >= others.items(), "the others were left alone"
    for name in set(stack.billing["vms"]) & set(VMS):
        copies = "/tmp/istio-vm-mesh.* /run/istio-vm-mesh.?????? /root/.istio-vm-mesh-* /root/istio-vm-mesh-*"
        half_done = f"ls -d {copies} /var/lib/istio-vm-mesh/unconfirmed /*/*.istio-vm-mesh 2>/dev/null; true"
        assert lab.vm_exec(name, ["sh", "-c", half_done]).stdout == ""


def at(run: subprocess.Popen[str], moment: Callable[[], bool]) -> None:
    """Wait for a moment of a run; the run must not end before."""
    deadline = time.monotonic() + 90
    while not moment():
        if run.poll() is not None and not moment():
            pytest.fail("the run ended before: " + run.communicate()[0])
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("step", JOINING)
def test_a_run_that_is_killed_while_a_vm_joins(
    stack: Stack, lab: Lab, kubectl: Kubectl, others: dict[str, str], step: str
) -> None:
    vm = f"killed-{step}"
    declare(stack, vm)
    with stack.started("up") as run:
        at(run, lambda: f"{vm}-{step}" in stack.under_way())
    recover(stack, lab, kubectl, others)


def is_deleted(stack: Stack, vm: str, step: str) -> bool:
    """Whether a step of a VM is being deleted, where that takes its time, or has been, where it does nothing."""
    name = f"{vm}-{step}"
    return name in stack.under_way() if step == "membership" else name not in stack.holds()


@pytest.mark.parametrize("step", LEAVING)
def test_a_run_that_is_killed_while_a_vm_leaves(
    stack: Stack, lab: Lab, kubectl: Kubectl, others: dict[str, str], step: str
) -> None:
    vm = f"killed-{step}"
    if vm not in stack.billing["vms"]:  # this test alone was chosen
        declare(stack, vm)
        stack.up()
    del stack.billing["vms"][vm]
    with stack.started("up") as run:
        at(run, lambda: is_deleted(stack, vm, step))
    recover(stack, lab, kubectl, others)
    left = "ls -d /etc/istio /var/lib/istio* /usr/local/lib/istio-vm-mesh; getent passwd istio-proxy; pgrep envoy; true"
    assert lab.vm_exec(vm, ["sh", "-c", f"{{ {left}; }} 2>/dev/null"]).stdout == ""


@pytest.mark.long
def test_vms_that_lose_power_in_each_step(stack: Stack, lab: Lab, kubectl: Kubectl, others: dict[str, str]) -> None:
    declare(stack, *(f"unplugged-{step}" for step in JOINING))
    with stack.started("up") as run:
        for step in JOINING:  # the VMs reach a step at about the same time
            at(run, lambda step=step: f"unplugged-{step}-{step}" in stack.under_way())
            lab.vm_power_off(f"unplugged-{step}")
        text = run.communicate(timeout=200)[0]
    assert run.returncode == 1
    assert "Traceback" not in text
    for step in JOINING:
        assert f"unplugged-{step}" in text
    for step in JOINING:
        lab.vm_power_on(f"unplugged-{step}")
    recover(stack, lab, kubectl, others)


@pytest.fixture(scope="module")
def told(stack: Stack, lab: Lab) -> dict[str, Any]:
    """What one run says of machines each of which has something wrong with it, and how far they have come."""
    for name, fault in FAULTS.items():
        assert lab.vm_exec(name, ["sh", "-c", fault.do]).returncode == 0, name
    declare(stack, *FAULTS)
    MIRRORED.unlink(missing_ok=True)
    MIRRORED.write_text("something else")
    package = {"url": f"http://10.77.0.5/{MIRRORED.name}", "sha256": paths.DEB_CHECKSUM.read_text().split()[0]}
    stack.billing["vms"]["wrong-file"]["sidecar"] = {"amd64": {"deb": package}}
    done = stack.run("up")
    assert done.returncode == 1
    return {"text": done.stdout + done.stderr, "states": stack.states()}


@pytest.mark.long
@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_with_a_machine_is_told_and_nothing_else_happens_there(
    told: dict[str, Any], lab: Lab, name: str
) -> None:
    fault = FAULTS[name]
    code, *facts = fault.tells
    line = reported(told["text"], name)
    assert f'"code":"{code}"' in line
    assert all(fact in told["text"] for fact in facts)
    assert "Traceback" not in told["text"]
    assert told["states"][name] != "healthy"
    assert {state for vm, state in told["states"].items() if vm not in FAULTS} == {"healthy"}
    here = lab.vm_exec(name, ["sh", "-c", "ls -d /etc/istio /var/lib/istio-vm-mesh 2>/dev/null; pgrep envoy; true"])
    assert fault.changes or here.stdout == ""


@pytest.mark.long
def test_machines_that_were_put_right_join(
    told: dict[str, Any], stack: Stack, lab: Lab, kubectl: Kubectl, others: dict[str, str]
) -> None:
    for name, fault in FAULTS.items():
        assert lab.vm_exec(name, ["sh", "-c", fault.undo]).returncode == 0, name
    MIRRORED.unlink()
    MIRRORED.symlink_to("istio-sidecar.deb")
    recover(stack, lab, kubectl, others)


@pytest.mark.long
@pytest.mark.parametrize("deployment", ["istiod", "istio-eastwestgateway"])
def test_the_way_to_istiod_is_down(stack: Stack, lab: Lab, kubectl: Kubectl, deployment: str) -> None:
    vm = {"istiod": "istiod-down", "istio-eastwestgateway": "gateway-down"}[deployment]
    scale = ("scale", f"deployment/{deployment}", "--namespace", "istio-system", "--replicas")
    kubectl(*scale, "0")
    try:
        pods = ("get", "pods", "--namespace", "istio-system", "-l", f"app={deployment}", "-o", "name")
        eventually(lambda: not kubectl(*pods), seconds=40, what=f"{deployment} is down")
        declare(stack, vm)
        done = stack.run("up")
        text = done.stdout + done.stderr
        assert done.returncode == 1
        if deployment == "istiod":  # without it, the API server cannot even take what the guard is to know of the VM
            assert 'failed calling webhook "validation.istio.io"' in text
        else:
            assert '"code":"istiod-unreachable"' in reported(text, vm)
        assert "Traceback" not in text
    finally:
        kubectl(*scale, "1")
    kubectl("rollout", "status", f"deployment/{deployment}", "--namespace", "istio-system", "--timeout=90s")
    # The agents of the others come back by themselves, within their own pauses; istiod may have forgotten them before.
    eventually(
        lambda: {state for name, state in stack.live().items() if name != vm},
        equals={"healthy"},
        seconds=90,
        what="the others are back",
    )
    recover(stack, lab, kubectl, {})


@pytest.mark.long
def test_the_api_server_is_down(stack: Stack, lab: Lab, kubectl: Kubectl, others: dict[str, str]) -> None:
    before = stack.states()
    server = processes.read("kube-apiserver")
    assert server
    processes.end([server])
    try:
        declare(stack, "api-down")
        begin = time.monotonic()
        done = stack.run("up")
        text = done.stdout + done.stderr
        assert done.returncode == 1
        assert "10.77.0.10:6443" in text
        assert "Traceback" not in text
        assert time.monotonic() - begin < 120
    finally:
        lab.start(Progress())
    eventually(
        lambda: {name: state for name, state in stack.live().items() if name in before},
        equals=before,
        seconds=60,
        what="the others are as before",
    )
    recover(stack, lab, kubectl, others)


@pytest.mark.long
def test_two_runs_at_once(stack: Stack, lab: Lab, kubectl: Kubectl, others: dict[str, str]) -> None:
    declare(stack, "two-runs")
    with stack.started("up") as first:
        at(first, lambda: "two-runs-configure" in stack.under_way())
        second = stack.run("up")
        assert second.returncode == 1
        assert "the stack is currently locked by 1 lock(s)" in second.stdout + second.stderr
        text = first.communicate(timeout=120)[0]
        assert first.returncode == 0, text
    recover(stack, lab, kubectl, others)
