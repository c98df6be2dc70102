"""Fifty VMs in one run, four of them broken: the others join, and the four are named with their reasons."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stack import PROJECT, Stack, committed_config

from lab.progress import Progress
from lab.runtime import Lab, LabSpec, VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(600)]

MANY = tuple(VmSpec(name=f"many-{n}", address=f"10.77.0.{128 + n}") for n in range(1, 51))
DEAD = ("many-1", "many-20", "many-40")
STRANGER = "many-50"


@pytest.fixture
def many(dev_stack: Stack, lab: Lab) -> Iterator[Stack]:
    """The dev stack beside fifty VMs; afterwards it is as committed again."""
    Lab(LabSpec(vms=MANY)).start(Progress())
    yield dev_stack
    dev_stack.config = committed_config()
    dev_stack.up(timeout=300)
    for vm in MANY:
        lab.remove_vm(vm.name)


def test_fifty_vms_of_which_four_are_broken(many: Stack, lab: Lab) -> None:
    for name in DEAD:
        lab.vm_power_off(name)
    known = dict(line.split(maxsplit=1) for line in (PROJECT / ".lab/ssh/known_hosts").read_text().splitlines())
    many.billing["vms"] |= {vm.name: {"address": vm.address} for vm in MANY}
    many.billing["vms"][STRANGER]["hostKey"] = known["10.77.0.21"]
    done = many.run("up", timeout=400)
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert "Traceback" not in text

    vms = many.outputs()["registration"]["vms"]
    states = {name: vm["state"] for name, vm in vms.items()}
    well = {vm.name for vm in MANY} - {*DEAD, STRANGER} | {"billing-1", "billing-2"}
    assert {name for name, state in states.items() if state == "healthy"} == well
    assert {name: states[name] for name in DEAD} == dict.fromkeys(DEAD, "unreachable")
    for name in (*DEAD, STRANGER):
        assert f"{name}-configure" in text
        assert vms[name]["reason"]
        assert vms[name]["hint"]
    assert "host key mismatch" in text
