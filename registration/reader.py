"""Reads the WorkloadEntries and probes ssh ports, and reports each VM's place on the ladder."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cluster.client import ApiError, Client
from cluster.objects import ENTRIES, Get, items, live_istiods
from registration.ladder import (
    DeclaredVm,
    Evidence,
    Mesh,
    Reachability,
    VmState,
    climb,
    is_complete,
    is_settling,
    needs_controllers,
)
from registration.report import report
from registration.static_vms import climb_static

ISTIO_NAMESPACE = "istio-system"
PROBE_SECONDS = 3
"""How long a VM's ssh port may take to answer."""
POLL_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the facts come from; a test hands in its own."""

    get: Get
    probe: Callable[[str, int], Reachability]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep


def read(
    vms: Sequence[DeclaredVm], evidence: Mapping[str, Evidence], sources: Sources, wait_seconds: float = 0
) -> tuple[dict[str, Any], str]:
    """The report, and the API's error if it gave no answer: that becomes the reason of a state, too.

    Args:
        vms: Whose registration.
        evidence: What their steps have shown, by VM name.
        sources: Where the facts come from.
        wait_seconds: How long to wait for VMs that were set up and may still get further.
    """
    look = _Look(vms=vms, evidence=evidence, sources=sources, wait_seconds=wait_seconds)
    mesh = look.mesh()
    probes = look.probes(look.states(mesh, {}))
    deadline = sources.now().timestamp() + wait_seconds
    while True:
        states = look.states(mesh, probes)
        if not look.any_settles(mesh, states) or sources.now().timestamp() >= deadline:
            break
        sources.sleep(POLL_SECONDS)
        mesh = look.mesh()
    return report(vms, evidence, states), mesh.error


def tcp_probe(address: str, port: int) -> Reachability:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((address, port), timeout=PROBE_SECONDS).close()
    except TimeoutError:
        return Reachability(reachable=False, detail=f"{address}:{port} did not answer within {PROBE_SECONDS} s")
    except OSError as error:
        return Reachability(reachable=False, detail=f"{address}:{port}: {(error.strerror or str(error)).lower()}")
    return Reachability(reachable=True)


def live_sources(client: Client) -> Sources:
    """The real API and the real network."""
    return Sources(get=client.get, probe=tcp_probe)


def reach(vm: DeclaredVm, probe: Callable[[str, int], Reachability]) -> Reachability | None:
    """What a probe says of a VM; None behind a bastion that answers, which says nothing of the VM."""
    if not vm.bastion:
        return probe(vm.address, vm.static_port or vm.ssh_port)
    host, _, port = vm.bastion.rpartition(":")
    found = probe(host, int(port))
    return None if found.reachable else Reachability(reachable=False, detail=f"its bastion {found.detail}")


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What one report is made of."""

    vms: Sequence[DeclaredVm]
    evidence: Mapping[str, Evidence]
    sources: Sources
    wait_seconds: float

    def mesh(self) -> Mesh:
        """The WorkloadEntries and, where one is old enough for it to matter, the istiods that live."""
        get, now = self.sources.get, self.sources.now()
        try:
            entries = tuple(items(get, ENTRIES))
            controllers = None
            if needs_controllers(entries, now):
                controllers = frozenset(pod["metadata"]["name"] for pod in live_istiods(get, ISTIO_NAMESPACE))
            return Mesh(entries=entries, live_controllers=controllers)
        except ApiError as error:
            return Mesh(error=str(error))

    def states(self, mesh: Mesh, probes: Mapping[str, Reachability]) -> dict[str, VmState]:
        """How far each VM is."""
        now, found = self.sources.now(), {}
        for vm in self.vms:
            evidence, reached = self.evidence.get(vm.name), probes.get(vm.name)
            found[vm.name] = (
                climb_static(vm, mesh, evidence, reached) if vm.static else climb(vm, mesh, evidence, reached, now)
            )
        return found

    def probes(self, states: Mapping[str, VmState]) -> dict[str, Reachability]:
        """Only VMs that are not where they should be are probed, all at once."""
        doubtful = [vm for vm in self.vms if not is_complete(states[vm.name].state, vm.has_probe, static=vm.static)]
        if not doubtful:
            return {}
        with ThreadPoolExecutor(max_workers=min(len(doubtful), 64)) as pool:
            found = pool.map(lambda vm: reach(vm, self.sources.probe), doubtful)
            return {vm.name: reached for vm, reached in zip(doubtful, found, strict=True) if reached is not None}

    def any_settles(self, mesh: Mesh, states: Mapping[str, VmState]) -> bool:
        """Whether waiting makes sense."""
        now = self.sources.now()
        return any(
            is_settling(vm, states[vm.name], mesh, self.evidence.get(vm.name, Evidence()), now, self.wait_seconds)
            for vm in self.vms
        )
