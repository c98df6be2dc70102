"""Reads the WorkloadEntries and probes ssh ports, and reports each VM's place on the ladder.

`python -m registration.reader` takes a request on standard input and always prints a report: an API server that does
not answer becomes the reason of a state, so the stack keeps its output.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
from registration.request import Request, parse, report
from registration.static_vms import climb_static

ENTRIES = "/apis/networking.istio.io/v1/workloadentries"
API_SECONDS = 5
"""How long the API server may take to answer."""
PROBE_SECONDS = 3
"""How long a VM's ssh port may take to answer."""
POLL_SECONDS = 0.5
NO_ANSWER = "the Kubernetes API gave no answer: "
"""What kubectl's own words come after."""


class ApiError(Exception):
    """The API server gave no answer; the message is for people."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the facts come from; a test hands in its own."""

    get: Callable[[str], Mapping[str, Any] | None]
    """GET of a path of the Kubernetes API; None where there is no such path, `ApiError` where there is no answer."""
    probe: Callable[[str, int], Reachability]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], None] = time.sleep


def read(request: Request, sources: Sources) -> tuple[dict[str, Any], str]:
    """The report, and the API's error if it gave no answer.

    Waits up to the request's deadline for VMs that were set up and may still get further.
    """
    mesh, states = _look(request, sources, {})
    probes = _probe(request, states, sources)
    deadline = sources.now().timestamp() + request.deadline_seconds
    while True:
        states = _climb_all(request, mesh, probes, sources.now())
        waiting = [vm for vm in request.vms if _settles(request, vm, states[vm.name], mesh, sources.now())]
        if not waiting or sources.now().timestamp() >= deadline:
            break
        sources.sleep(POLL_SECONDS)
        mesh, states = _look(request, sources, probes)
    return report(request, states), mesh.error


def kubectl_get(kubeconfig: str | None, context: str | None) -> Callable[[str], Mapping[str, Any] | None]:
    """A `get` that asks the API through kubectl, which knows every way to log in."""

    def get(path: str) -> Mapping[str, Any] | None:
        text = kubectl_run(kubeconfig, context, 2 * API_SECONDS, "get", "--raw", path)
        return None if text is None else dict(json.loads(text))

    return get


def kubectl_run(kubeconfig: str | None, context: str | None, seconds: float, *arguments: str) -> str | None:
    """What kubectl prints; None where what it was to look at is not there, `ApiError` where it fails."""
    command = ["kubectl", f"--request-timeout={API_SECONDS}s"]
    command += [f"--kubeconfig={Path(kubeconfig).expanduser()}"] if kubeconfig else []
    command += [f"--context={context}"] if context else []
    try:
        done = subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=max(seconds, 0.1), check=False
        )
    except FileNotFoundError:
        raise ApiError("kubectl is not on PATH") from None
    except subprocess.TimeoutExpired:
        raise ApiError(f"the Kubernetes API did not answer within {seconds:.3g} s") from None
    if done.returncode == 0:
        return done.stdout
    if "(NotFound)" in done.stderr:
        return None
    said = [line for line in done.stderr.strip().splitlines() if line]
    raise ApiError(f"{NO_ANSWER}{said[-1] if said else 'kubectl failed'}")


def tcp_probe(address: str, port: int) -> Reachability:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((address, port), timeout=PROBE_SECONDS).close()
    except TimeoutError:
        return Reachability(reachable=False, detail=f"{address}:{port} did not answer within {PROBE_SECONDS} s")
    except OSError as error:
        return Reachability(reachable=False, detail=f"{address}:{port}: {(error.strerror or str(error)).lower()}")
    return Reachability(reachable=True)


def live_sources(request: Request) -> Sources:
    """The real API and the real network."""
    return Sources(get=kubectl_get(request.kubeconfig, request.context), probe=tcp_probe)


def _look(request: Request, sources: Sources, probes: Mapping[str, Reachability]) -> tuple[Mesh, dict[str, VmState]]:
    mesh = _read_mesh(request, sources)
    return mesh, _climb_all(request, mesh, probes, sources.now())


def _read_mesh(request: Request, sources: Sources) -> Mesh:
    try:
        entries = tuple((sources.get(ENTRIES) or {}).get("items") or ())
        controllers = None
        if needs_controllers(entries, sources.now()):
            pods = sources.get(f"/api/v1/namespaces/{request.istio_namespace}/pods?labelSelector=app%3Distiod") or {}
            controllers = frozenset(pod["metadata"]["name"] for pod in pods.get("items") or () if _runs(pod))
        return Mesh(entries=entries, live_controllers=controllers)
    except ApiError as error:
        return Mesh(error=str(error))


def _runs(pod: Mapping[str, Any]) -> bool:
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def _climb_all(request: Request, mesh: Mesh, probes: Mapping[str, Reachability], now: datetime) -> dict[str, VmState]:
    states = {}
    for vm in request.vms:
        evidence, reached = request.evidence.get(vm.name), probes.get(vm.name)
        states[vm.name] = (
            climb_static(vm, mesh, evidence, reached) if vm.static else climb(vm, mesh, evidence, reached, now)
        )
    return states


def _probe(request: Request, states: Mapping[str, VmState], sources: Sources) -> dict[str, Reachability]:
    """Only VMs that are not where they should be are probed, all at once."""
    doubtful = [vm for vm in request.vms if not is_complete(states[vm.name].state, vm.has_probe, static=vm.static)]
    if not doubtful:
        return {}
    with ThreadPoolExecutor(max_workers=min(len(doubtful), 64)) as pool:
        found = pool.map(lambda vm: reach(vm, sources.probe), doubtful)
        return {vm.name: reached for vm, reached in zip(doubtful, found, strict=True) if reached is not None}


def reach(vm: DeclaredVm, probe: Callable[[str, int], Reachability]) -> Reachability | None:
    """What a probe says of a VM; None behind a bastion that answers, which says nothing of the VM."""
    if not vm.bastion:
        return probe(vm.address, vm.static_port or vm.ssh_port)
    host, _, port = vm.bastion.rpartition(":")
    found = probe(host, int(port))
    return None if found.reachable else Reachability(reachable=False, detail=f"its bastion {found.detail}")


def _settles(request: Request, vm: DeclaredVm, state: VmState, mesh: Mesh, now: datetime) -> bool:
    evidence = request.evidence.get(vm.name, Evidence())
    return is_settling(vm, state, mesh, evidence, now, request.deadline_seconds)


def main() -> int:
    """Request on standard input, report on standard output."""
    request = parse(sys.stdin.read())
    found, _ = read(request, live_sources(request))
    sys.stdout.write(json.dumps(found, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
