"""The declared VMs of a stack, and what its last outputs say about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registration.ladder import DeclaredVm, Evidence, State
from settings import Settings

SET_UP = {State.CONFIGURED, State.CONNECTED, State.REGISTERED, State.HEALTHY, State.STALE}
"""States in the outputs that a VM reaches only once its steps have run."""


def declared_vms(settings: Settings) -> dict[str, DeclaredVm]:
    """Every VM of the stack by name."""
    return {
        name: DeclaredVm(
            name=name,
            namespace=workload.namespace,
            workload=group,
            address=vm.address,
            network=workload.network or settings.cluster.network,
            has_probe=workload.probe is not None,
            ssh_port=settings.connections[name].port,
        )
        for group, workload in settings.workloads.items()
        for name, vm in workload.vms.items()
    }


def last_evidence(outputs: Mapping[str, Any], vms: Mapping[str, DeclaredVm]) -> dict[str, Evidence]:
    """Evidence from the outputs of the last `up`, for the VMs that were the same then."""
    reported = (outputs.get("registration") or {}).get("vms") or {}
    evidence = {}
    for name, vm in vms.items():
        last = reported.get(name) or {}
        certificate = last.get("certificate")
        if last.get("address") == vm.address and (certificate or last.get("state") in SET_UP):
            evidence[name] = Evidence(configured=True, confirmed={"certificate": certificate} if certificate else {})
    return evidence
