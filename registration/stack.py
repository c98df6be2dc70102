"""The declared VMs of a stack, and what its last outputs say about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hosts.observe import Found
from registration.ladder import DeclaredVm, Evidence, State
from settings import Settings, Workload

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
            **_reached(settings, workload, name),
        )
        for group, workload in settings.workloads.items()
        for name, vm in workload.vms.items()
    }


def _reached(settings: Settings, workload: Workload, vm: str) -> dict[str, Any]:
    """Where a VM is probed."""
    if workload.vms[vm].static:
        first = next(iter(workload.service.ports if workload.service else workload.ports))
        return {"static_port": workload.ports[first]}
    connection = settings.connections[vm]
    bastion = connection.bastion
    return {"ssh_port": connection.port, "bastion": f"{bastion.host}:{bastion.port}" if bastion else ""}


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


def with_found(evidence: Mapping[str, Evidence], found: Mapping[str, Found]) -> dict[str, Evidence]:
    """Evidence with what a look at the hosts has found: differences, and the certificate of now."""
    result = dict(evidence)
    for name, vm in found.items():
        known = replace(result.get(name, Evidence()), drift=vm.summary)
        if vm.certificate and known.confirmed is not None:
            now = {"serial": vm.certificate.serial, "notAfter": vm.certificate.not_after}
            confirmed = {**known.confirmed, "certificate": {**(known.confirmed.get("certificate") or {}), **now}}
            known = replace(known, confirmed=confirmed)
        result[name] = known
    return result
