"""Decides the state of a static VM, one without a sidecar, which gets as far as `reachable`."""

from __future__ import annotations

from registration.ladder import (
    DeclaredVm,
    Evidence,
    Mesh,
    Reachability,
    State,
    VmState,
    failed_state,
    find_entry,
)


def climb_static(vm: DeclaredVm, mesh: Mesh, evidence: Evidence | None, reachability: Reachability | None) -> VmState:
    """The state of a static VM: whether clients find it, and its application answers.

    Args:
        vm: The declaration.
        mesh: The WorkloadEntries, or why they could not be read.
        evidence: Whether its WorkloadEntry could be made; None where nothing is known of it.
        reachability: The TCP probe of its application; None where it was not made.
    """
    if evidence is not None and evidence.failed:
        return failed_state(evidence.failed, None, None)
    entry = find_entry(vm, mesh.entries)
    if entry is None:
        return VmState(
            state=State.DECLARED,
            reason=mesh.error or "its WorkloadEntry is not there",
            hint="check the cluster's address and credentials" if mesh.error else "run `up`",
        )
    if reachability is None or not reachability.reachable:
        return VmState(
            state=State.UNREACHABLE if reachability else State.DECLARED,
            reason=reachability.detail if reachability else "its application was not asked",
            hint=f"check that {vm.name} is on, that {vm.address} is its address and that its application answers",
        )
    return VmState(state=State.REACHABLE, since=entry["metadata"].get("creationTimestamp"))
