"""What is said of a control plane once it is installed, from what the cluster and istiod answer.

Pure. Nothing here counts or times anything, so that it stays the same while nothing changes: pods of a Deployment are
told of as one, and of all other proxies only the versions, and which of them are behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ANSWERS = "answers"
READY = "ready"
SYNCED = "SYNCED"
STALE = "STALE"
NOT_SENT = "NOT SENT"
TYPES = {"cds": "cluster", "lds": "listener", "eds": "endpoint", "rds": "route"}
"""As `istioctl proxy-status` calls them -> as `/debug/syncz` does."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A Deployment or DaemonSet that the mesh consists of."""

    kind: str
    """`deployments` or `daemonsets`."""
    namespace: str
    name: str

    @property
    def full_name(self) -> str:
        """Namespace and name."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which control plane is to be looked at."""

    revision: str
    """Empty for the default one."""
    workloads: tuple[Workload, ...]
    vm_namespaces: tuple[str, ...] = ()
    """Namespaces in which the stack has VMs."""
    vms: tuple[str, ...] = ()
    """VMs that are connected, `<name>.<namespace>`, as proxies are called."""
    has_istiod: bool = True
    """Whether istiod runs in this cluster."""
    istio_namespace: str = "istio-system"
    deadline_seconds: float = 0
    """How long to wait for what is not ready."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What was found in one look."""

    version: str = ""
    """As istiod says it; empty where it does not."""
    workloads: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    """Objects by full name; None for one that is not there."""
    webhooks: Mapping[str, str] = field(default_factory=dict)
    """What each does: `ANSWERS`, or why it does not."""
    proxies: Sequence[Mapping[str, Any]] = ()
    """What `/debug/syncz` of all istiods says."""
    pods: frozenset[str] = frozenset()
    """Pods in the VMs' namespaces, `<name>.<namespace>`, as proxies are called."""
    problems: tuple[str, ...] = ()
    """What was not answered."""


def workload_state(obj: Mapping[str, Any] | None) -> str:
    """`READY`, or what a Deployment or DaemonSet lacks."""
    if obj is None:
        return "missing"
    status, spec = obj.get("status", {}), obj["spec"]
    if obj.get("kind") == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        updated, ready = status.get("updatedNumberScheduled", 0), status.get("numberReady", 0)
    else:
        wanted = spec.get("replicas", 1)
        updated, ready = status.get("updatedReplicas", 0), status.get("readyReplicas", 0)
    if status.get("observedGeneration", 0) < obj["metadata"].get("generation", 0):
        return "is being changed"
    return READY if updated >= wanted and ready >= wanted else f"{min(updated, ready)} of {wanted} ready"


def sync_of(proxy: Mapping[str, Any]) -> dict[str, str]:
    """How far a proxy has what istiod sent it, type by type."""
    found = {}
    for short, name in TYPES.items():
        sent, acked = proxy.get(f"{name}_sent") or "", proxy.get(f"{name}_acked") or ""
        found[short] = NOT_SENT if not sent else SYNCED if sent == acked else STALE
    return found


def worst(syncs: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """What can be said of several proxies at once."""
    order = {STALE: 0, NOT_SENT: 1, SYNCED: 2}
    result: dict[str, str] = {}
    for sync in syncs:
        for short, state in sync.items():
            result[short] = min(result.get(short, state), state, key=order.__getitem__)
    return result


def named(proxy: str, request: Request, pods: frozenset[str]) -> str:
    """What a proxy is called in the output: a VM as it calls itself, pods by their Deployment; empty for all others."""
    name, _, namespace = proxy.rpartition(".")
    if namespace in request.vm_namespaces and proxy not in pods:
        return proxy
    for workload in request.workloads:
        base, _, _ = name.rpartition("-")
        if workload.namespace == namespace and base.rpartition("-")[0] == workload.name:
            return f"{workload.name}.{namespace}"
    return ""


def report(request: Request, answers: Answers) -> dict[str, Any]:
    """What the stack puts out under `mesh.controlPlane`."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for proxy in answers.proxies:
        if name := named(proxy["proxy"], request, answers.pods):
            groups.setdefault(name, []).append(proxy)
    workloads = {name: workload_state(obj) for name, obj in sorted(answers.workloads.items())}
    behind = sorted(proxy["proxy"] for proxy in answers.proxies if STALE in sync_of(proxy).values())
    wrong = [
        *answers.problems,
        *(f"{name}: {state}" for name, state in workloads.items() if state != READY),
        *(f"webhook {name}: {state}" for name, state in answers.webhooks.items() if state != ANSWERS),
        *(f"proxy {name}: has not taken what istiod sent" for name in behind),
        *(f"proxy {name}: is not among istiod's" for name in request.vms if name not in groups),
    ]
    return {
        "ready": not wrong,
        "version": answers.version,
        "workloads": workloads,
        "webhooks": dict(sorted(answers.webhooks.items())),
        "proxies": {
            name: {
                "version": ", ".join(sorted({_version(proxy) for proxy in group})),
                "sync": worst(map(sync_of, group)),
            }
            for name, group in sorted(groups.items())
        },
        "proxyVersions": sorted({_version(proxy) for proxy in answers.proxies}),
        "problems": wrong,
    }


def _version(proxy: Mapping[str, Any]) -> str:
    return str(proxy.get("istio_version") or proxy.get("proxy_version") or "unknown")
