"""Twenty fresh VMs, none of whose kernels has tracked a connection before, join: no ssh session hangs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from stack import Stack

from lab.runtime import Lab
from lab.spec import VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(600)]

JOINERS = tuple(VmSpec(name=f"joiner-{n}", address=f"10.77.0.{100 + n}") for n in range(1, 6))
ROUNDS = 4


@pytest.fixture
def joiners(lab: Lab) -> Iterator[tuple[VmSpec, ...]]:
    for vm in JOINERS:
        lab.add_vm(vm)
    yield JOINERS
    for vm in JOINERS:
        lab.remove_vm(vm.name)


def test_twenty_fresh_vms_join_and_no_session_hangs(stack: Stack, lab: Lab, joiners: tuple[VmSpec, ...]) -> None:
    for _ in range(ROUNDS):
        for vm in joiners:
            assert "conntrack" not in lab.vm_exec(vm.name, ["iptables", "-S"]).stdout
            stack.billing["vms"][vm.name] = {"address": vm.address}
        stack.up(timeout=120)  # a session that hung would run into the step's own deadline, and fail
        assert {name: state for name, state in stack.states().items() if state != "healthy"} == {}
        for vm in joiners:
            del stack.billing["vms"][vm.name]
        stack.up(timeout=120)
        for vm in joiners:
            lab.vm_reset(vm.name)
