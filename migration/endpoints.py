"""Which pods and VMs stand behind a host, and whether Kubernetes and istiod take them for healthy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from registration.ladder import AUTO_GROUP, CONNECTED_AT, HEALTH_CHECKS

Object = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What a host stands for: the labels of its pods and VMs, and where requests for it end."""

    namespace: str
    labels: Mapping[str, str]
    ports: tuple[tuple[str, int | str], ...]
    """Name of each port, and the number or name of the port of the application that it leads to."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A pod or VM of a host."""

    kind: str
    """`pod` or `vm`."""
    name: str
    """Of the pod or the WorkloadEntry."""
    address: str
    labels: Mapping[str, str]
    unhealthy: str
    """Why it is not healthy; empty where it is."""
    unjudged: bool
    """Whether that is only because nobody knows."""
    proxy: str
    """Why there is no proxy that could have answered a request; empty where there is one."""
    ports: frozenset[int]
    """Numbers of the application's ports that the host leads to."""


def selection_of_service(service: Object) -> Selection | None:
    """What a Kubernetes Service stands for; None where it selects nothing."""
    spec = service["spec"]
    if not spec.get("selector"):
        return None
    ports = tuple((port.get("name", ""), port.get("targetPort", port["port"])) for port in spec.get("ports") or ())
    return Selection(namespace=service["metadata"]["namespace"], labels=spec["selector"], ports=ports)


def selection_of_entry(host: str, service_entries: Iterable[Object]) -> Selection | None:
    """What the ServiceEntry of a host stands for; None where there is none, or it selects nothing."""
    for entry in service_entries:
        spec = entry.get("spec", {})
        labels = (spec.get("workloadSelector") or {}).get("labels")
        if host in spec.get("hosts", ()) and labels:
            ports = tuple((port["name"], port.get("targetPort") or port["number"]) for port in spec.get("ports") or ())
            return Selection(namespace=entry["metadata"]["namespace"], labels=labels, ports=ports)
    return None


def pods_of(selection: Selection, pods: Iterable[Object]) -> list[Endpoint]:
    """The pods that a host stands for, but for those that are on their way out."""
    return [
        Endpoint(
            kind="pod",
            name=pod["metadata"]["name"],
            address=pod.get("status", {}).get("podIP", ""),
            labels=pod["metadata"].get("labels") or {},
            unhealthy=_pod_problem(pod),
            unjudged=False,
            proxy=_no_proxy(pod),
            ports=frozenset(_pod_port(pod, port) for _, port in selection.ports) - {0},
        )
        for pod in pods
        if _bears(pod["metadata"].get("labels"), selection.labels)
        and "deletionTimestamp" not in pod["metadata"]
        and pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}
    ]


def vms_of(selection: Selection, entries: Iterable[Object]) -> list[Endpoint]:
    """The VMs that a host stands for."""
    return [
        Endpoint(
            kind="vm",
            name=entry["metadata"]["name"],
            address=entry["spec"].get("address", ""),
            labels=entry["spec"].get("labels") or {},
            unhealthy=_entry_problem(entry),
            unjudged=AUTO_GROUP not in _annotations(entry),
            proxy="" if AUTO_GROUP in _annotations(entry) else "has no sidecar",
            ports=frozenset(
                (entry["spec"].get("ports") or {}).get(name, port if isinstance(port, int) else 0)
                for name, port in selection.ports
            )
            - {0},
        )
        for entry in entries
        if _bears(entry["spec"].get("labels"), selection.labels)
    ]


def _bears(labels: Mapping[str, str] | None, wanted: Mapping[str, str]) -> bool:
    return wanted.items() <= (labels or {}).items()


def in_subset(endpoints: Iterable[Endpoint], labels: Mapping[str, str]) -> list[Endpoint]:
    """Those that bear the labels of a subset."""
    return [endpoint for endpoint in endpoints if _bears(endpoint.labels, labels)]


def _annotations(entry: Object) -> Mapping[str, str]:
    return entry["metadata"].get("annotations") or {}


def _condition(found: Object, kind: str) -> Mapping[str, Any]:
    conditions = (found.get("status") or {}).get("conditions") or ()
    return next((condition for condition in conditions if condition["type"] == kind), {})


def _pod_problem(pod: Object) -> str:
    if _condition(pod, "Ready").get("status") == "True":
        return ""
    waiting = [
        status["state"]["waiting"].get("reason", "")
        for status in pod.get("status", {}).get("containerStatuses") or ()
        if "waiting" in status.get("state", {})
    ]
    return f"is not ready ({waiting[0]})" if waiting and waiting[0] else "is not ready"


def _no_proxy(pod: Object) -> str:
    containers = [*pod["spec"].get("containers", ()), *pod["spec"].get("initContainers", ())]
    if "istio-proxy" not in {container["name"] for container in containers}:
        return "has no sidecar"
    return "" if pod.get("status", {}).get("phase") == "Running" else "has not started"


def _pod_port(pod: Object, port: int | str) -> int:
    """The number of a pod's port; 0 for a name that it does not have."""
    if isinstance(port, int):
        return port
    named = [
        declared["containerPort"]
        for container in pod["spec"].get("containers", ())
        for declared in container.get("ports") or ()
        if declared.get("name") == port
    ]
    return int(named[0]) if named else 0


def _entry_problem(entry: Object) -> str:
    """Why a WorkloadEntry gets no requests, or is not known to serve; the same as istiod's own rules."""
    annotations = _annotations(entry)
    if AUTO_GROUP not in annotations:
        return "has no sidecar, so nobody knows its health"
    if CONNECTED_AT not in annotations:
        return "is not connected to istiod"
    if annotations.get(HEALTH_CHECKS) != "true":
        return ""
    healthy = _condition(entry, "Healthy")
    if healthy.get("status") == "True":
        return ""
    return f"is unhealthy ({' '.join(str(healthy['message']).split())})" if healthy.get("message") else "is unhealthy"
