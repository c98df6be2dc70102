"""Decides a VM's state from what the mesh, the hosts and a TCP probe say about it.

Pure: no clock, no network, no Pulumi. The reader gathers the facts; a test can hand in any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

CONNECTED_AT = "istio.io/connectedAt"
DISCONNECTED_AT = "istio.io/disconnectedAt"
CONTROLLER = "istio.io/workloadController"
AUTO_GROUP = "istio.io/autoRegistrationGroup"
HEALTH_CHECKS = "proxy.istio.io/health-checks-enabled"

STALE_AFTER = timedelta(minutes=45)
"""istiod renews every connection within 30 minutes, so an older mark needs a live controller to be believed."""

NAME_LIMIT = 253
"""istiod keeps the last so many characters of a generated WorkloadEntry name."""


class State(StrEnum):
    """The ladder's steps in order, then the states off it."""

    DECLARED = "declared"
    REACHABLE = "reachable"
    CONFIGURED = "configured"
    CONNECTED = "connected"
    REGISTERED = "registered"
    HEALTHY = "healthy"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    STALE = "stale"
    DRIFTED = "drifted"


@dataclass(frozen=True, kw_only=True)
class DeclaredVm:
    """A VM as the stack declares it."""

    name: str
    namespace: str
    workload: str
    address: str
    network: str = ""
    has_probe: bool = False
    """Whether the workload declares a probe; without one, `registered` is the top."""
    ssh_port: int = 22
    bastion: str = ""
    """`host:port` of the machine through which ssh goes; empty for none."""
    static_port: int | None = None
    """Port of the application of a static VM, one without a sidecar; None where it has one."""

    @property
    def entry(self) -> str:
        """Name of its WorkloadEntry: of a static VM its own, else the one that istiod gives."""
        return self.name if self.static else entry_name(self.workload, self.address, self.network)

    @property
    def static(self) -> bool:
        """Whether it has no sidecar."""
        return self.static_port is not None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the steps on the host have shown."""

    configured: bool = False
    confirmed: Mapping[str, Any] | None = None
    """What `confirm` printed: package, certificate, ready."""
    failed: str | None = None
    """Name of the first resource of this VM that has no result in this run."""
    pending: bool = False
    """Whether this is a preview, and steps of this VM are still to be done."""
    drift: str = ""
    """What differs on the host from how it was left, in a line; empty where nothing does, or nobody looked."""


@dataclass(frozen=True, kw_only=True)
class Reachability:
    """What a TCP connection to the VM's ssh port, or to a static VM's application, met."""

    reachable: bool
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """What the Kubernetes API says about all VMs."""

    entries: tuple[Mapping[str, Any], ...] = ()
    live_controllers: frozenset[str] | None = None
    """Names of the istiod pods that run; None where nobody asked."""
    error: str = ""
    """Why the entries could not be read; empty where they could."""


@dataclass(frozen=True, kw_only=True)
class VmState:
    """Where a VM stands, and what to do about it."""

    state: State
    since: str | None = None
    """RFC 3339. For `connected` and above: when the entry was made, which a reconnection does not change."""
    reason: str = ""
    hint: str = ""


def entry_name(workload: str, address: str, network: str = "") -> str:
    """The name istiod gives the WorkloadEntry of a VM that registers itself."""
    name = "-".join(part for part in (workload, address.replace(":", "-"), network) if part)
    return name[-NAME_LIMIT:]


def find_entry(vm: DeclaredVm, entries: tuple[Mapping[str, Any], ...]) -> Mapping[str, Any] | None:
    """The VM's entry: the one with the computed name, else one of its group with its address."""
    ours = [e for e in entries if e["metadata"].get("namespace") == vm.namespace]
    named = (e for e in ours if e["metadata"].get("name") == vm.entry)
    if vm.static:
        return next(named, None)
    matching = (
        e
        for e in ours
        if _annotations(e).get(AUTO_GROUP) == vm.workload and e.get("spec", {}).get("address") == vm.address
    )
    return next(named, None) or next(matching, None)


def is_complete(state: State | str, has_probe: bool, *, static: bool = False) -> bool:
    """Whether a VM has reached the top of what its workload, or a VM without a sidecar, can show."""
    if static:
        return state == State.REACHABLE
    return state == State.HEALTHY or (state == State.REGISTERED and not has_probe)


def needs_controllers(entries: tuple[Mapping[str, Any], ...], now: datetime) -> bool:
    """Whether any entry is old enough that only a list of live istiod pods tells if it is stale."""
    return any(_is_old(e, now) for e in entries)


def climb(
    vm: DeclaredVm,
    mesh: Mesh,
    evidence: Evidence | None,
    reachability: Reachability | None,
    now: datetime,
) -> VmState:
    """The state of one VM that has a sidecar.

    Args:
        vm: The declaration.
        mesh: The WorkloadEntries, or why they could not be read.
        evidence: What the host's steps showed; None where nothing is known of them.
        reachability: The TCP probe; None where it was not made.
        now: The current time, which only decides staleness.
    """
    evidence = evidence or Evidence()
    entry = find_entry(vm, mesh.entries)
    if evidence.failed:
        return failed_state(evidence.failed, entry, reachability)
    if evidence.drift:
        return VmState(
            state=State.DRIFTED, reason=evidence.drift, hint="`preview` shows the lines, `up` puts them back"
        )
    if entry is not None:
        found = _from_entry(vm, entry, mesh, now)
        if found.state != State.STALE or reachability is None or reachability.reachable:
            return found
    if reachability is not None and not reachability.reachable:
        return _unreachable(vm, reachability)
    return _without_entry(vm, mesh, evidence, reachability)


def is_settling(vm: DeclaredVm, state: VmState, mesh: Mesh, evidence: Evidence, now: datetime, window: float) -> bool:
    """Whether waiting may still change a VM's state: it was set up, and its last change is younger than the window.

    A change is the start of its sidecar, its connection, or of its health. So a VM whose application has been down for
    an hour is not waited for, and one that has just started its sidecar is.
    """
    if vm.static or evidence.failed or evidence.confirmed is None or mesh.error:
        return False
    if is_complete(state.state, vm.has_probe) or state.state == State.UNREACHABLE:
        return False
    moments = [parse_time(str(evidence.confirmed.get("since") or ""))]
    entry = find_entry(vm, mesh.entries)
    if entry is not None:
        moments += [_connected_at(entry), parse_time((health_condition(entry) or {}).get("lastTransitionTime"))]
    known = [moment for moment in moments if moment is not None]
    return not known or (now - max(known)).total_seconds() < window


def health_condition(entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The entry's condition `Healthy`, where istiod has one."""
    conditions = (entry.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c.get("type") == "Healthy"), None)


def _from_entry(vm: DeclaredVm, entry: Mapping[str, Any], mesh: Mesh, now: datetime) -> VmState:
    marks = _annotations(entry)
    created = entry["metadata"].get("creationTimestamp")
    if CONNECTED_AT not in marks:
        return VmState(
            state=State.STALE,
            since=marks.get(DISCONNECTED_AT),
            reason="the sidecar has disconnected from istiod" if DISCONNECTED_AT in marks else "no sidecar connected",
            hint=f"look at `systemctl status istio` and /var/log/istio on {vm.name}; a new `up` continues",
        )
    if _is_old(entry, now) and marks.get(CONTROLLER) not in (mesh.live_controllers or frozenset()):
        return VmState(
            state=State.STALE,
            since=marks[CONNECTED_AT],
            reason=f"its istiod pod {marks.get(CONTROLLER, '(unknown)')} is gone and no other has taken it over",
            hint=f"check that istiod runs, then `systemctl status istio` on {vm.name}",
        )
    if marks.get(HEALTH_CHECKS) != "true":
        if not vm.has_probe:
            return VmState(state=State.REGISTERED, since=created)
        return VmState(
            state=State.REGISTERED,
            since=created,
            reason="it registered without a health check",
            hint="it registered before the probe was declared; a new `up` registers it again",
        )
    condition = health_condition(entry)
    if condition is None:
        return VmState(state=State.CONNECTED, since=created, reason="the first health report is awaited")
    if condition.get("status") == "True":
        return VmState(state=State.HEALTHY, since=created)
    message = " ".join(str(condition.get("message") or "no message").split())
    return VmState(
        state=State.REGISTERED,
        since=condition.get("lastTransitionTime"),
        reason=f"unhealthy: {message}",
        hint=f"check that the application on {vm.name} answers the workload's probe",
    )


def failed_state(resource: str, entry: Mapping[str, Any] | None, reachability: Reachability | None) -> VmState:
    """The state of a VM of which a step failed or was left out."""
    unreachable = reachability is not None and not reachability.reachable
    reason = reachability.detail if unreachable and reachability is not None else f"{resource} failed or did not run"
    if entry is not None and CONNECTED_AT in _annotations(entry):
        reason += "; the sidecar is still connected as it was before"
    return VmState(
        state=State.UNREACHABLE if unreachable else State.FAILED,
        reason=reason,
        hint=f"see the error of resource {resource}, or of what it depends on, then run `up` again",
    )


def _unreachable(vm: DeclaredVm, reachability: Reachability) -> VmState:
    return VmState(
        state=State.UNREACHABLE,
        reason=reachability.detail or "its ssh port does not answer",
        hint=f"check that {vm.name} is on, that {vm.address} is its address and that ssh is let through",
    )


def _without_entry(vm: DeclaredVm, mesh: Mesh, evidence: Evidence, reachability: Reachability | None) -> VmState:
    configured = evidence.configured or evidence.confirmed is not None
    reached = reachability is not None and reachability.reachable
    state = State.CONFIGURED if configured else State.REACHABLE if reached else State.DECLARED
    if mesh.error:
        return VmState(state=state, reason=mesh.error, hint="check the cluster's address and credentials")
    if not configured:
        return VmState(state=state, reason="not configured yet", hint="run `up`")
    return VmState(
        state=state,
        reason="no WorkloadEntry: its sidecar is not connected to istiod",
        hint=f"look at `systemctl status istio` and /var/log/istio on {vm.name}",
    )


def _annotations(entry: Mapping[str, Any]) -> Mapping[str, str]:
    return entry["metadata"].get("annotations") or {}


def _connected_at(entry: Mapping[str, Any]) -> datetime | None:
    return parse_time(_annotations(entry).get(CONNECTED_AT))


def _is_old(entry: Mapping[str, Any], now: datetime) -> bool:
    connected = _connected_at(entry)
    return connected is not None and now - connected > STALE_AFTER


def parse_time(text: str | None) -> datetime | None:
    """RFC 3339 with up to nanoseconds (istiod's precision) to a datetime; None where it is none."""
    if not text:
        return None
    head, dot, rest = text.partition(".")
    if dot:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        text = f"{head}.{digits[:6].ljust(6, '0')}{rest[len(digits) :]}"
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo else None
