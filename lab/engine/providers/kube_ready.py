"""Tells of live objects whether they are ready, and if not, what they lack. Pure functions on what the API server says.

Kinds that are not listed are ready as soon as they exist, as with Pulumi's provider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

Object = Mapping[str, Any]


class Failed(Exception):
    """The object will never be ready; waiting on is pointless."""


def deployment(obj: Object) -> str:
    """Say what a Deployment's rollout lacks."""
    status, wanted = obj.get("status", {}), obj["spec"].get("replicas", 1)
    if stale := _unobserved(obj):
        return stale
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    available = status.get("availableReplicas", 0)
    if updated < wanted:
        return f"{updated} of {wanted} replicas are updated" + _reasons(obj, "Progressing", "Available")
    if total > updated:
        return f"{total - updated} old replicas are still there"
    if available < updated:
        return f"{available} of {updated} updated replicas are available" + _reasons(obj, "Progressing", "Available")
    return ""


def stateful_set(obj: Object) -> str:
    """Say what a StatefulSet's rollout lacks."""
    status, wanted = obj.get("status", {}), obj["spec"].get("replicas", 1)
    if stale := _unobserved(obj):
        return stale
    ready, updated = status.get("readyReplicas", 0), status.get("updatedReplicas", 0)
    if ready < wanted:
        return f"{ready} of {wanted} replicas are ready"
    if obj["spec"].get("updateStrategy", {}).get("type") != "OnDelete" and updated < wanted:
        return f"{updated} of {wanted} replicas are updated"
    return ""


def daemon_set(obj: Object) -> str:
    """Say what a DaemonSet's rollout lacks."""
    status = obj.get("status", {})
    if stale := _unobserved(obj):
        return stale
    wanted, available = status.get("desiredNumberScheduled", 0), status.get("numberAvailable", 0)
    updated = status.get("updatedNumberScheduled", 0)
    if obj["spec"].get("updateStrategy", {}).get("type") != "OnDelete" and updated < wanted:
        return f"{updated} of {wanted} pods are updated"
    return "" if available >= wanted else f"{available} of {wanted} pods are available"


def job(obj: Object) -> str:
    """Say whether a Job is still running; a failed one raises Failed."""
    if obj["spec"].get("suspend"):
        return ""
    conditions = {item["type"]: item for item in _conditions(obj)}
    if conditions.get("Failed", {}).get("status") == "True":
        raise Failed("the job failed" + _reasons(obj, "Failed", when="True"))
    if conditions.get("Complete", {}).get("status") == "True":
        return ""
    status = obj.get("status", {})
    return f"the job is not complete ({status.get('succeeded', 0)} succeeded, {status.get('failed', 0)} failed)"


def pod(obj: Object) -> str:
    """Say what a Pod lacks."""
    if obj.get("status", {}).get("phase") == "Succeeded":
        return ""
    conditions = {item["type"]: item for item in _conditions(obj)}
    if conditions.get("Ready", {}).get("status") == "True":
        return ""
    return "; ".join(pod_troubles(obj)) or f"the pod is {obj.get('status', {}).get('phase', 'not scheduled')}"


def custom_resource_definition(obj: Object) -> str:
    """Say whether the API server serves the new kind."""
    conditions = {item["type"]: item for item in _conditions(obj)}
    if conditions.get("NamesAccepted", {}).get("status") == "False":
        raise Failed("the names are taken" + _reasons(obj, "NamesAccepted"))
    established = conditions.get("Established", {}).get("status") == "True"
    return "" if established else "it is not established" + _reasons(obj, "Established", "NamesAccepted")


READY: Final[Mapping[tuple[str, str], Callable[[Object], str]]] = {
    ("apps/v1", "Deployment"): deployment,
    ("apps/v1", "StatefulSet"): stateful_set,
    ("apps/v1", "DaemonSet"): daemon_set,
    ("batch/v1", "Job"): job,
    ("v1", "Pod"): pod,
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"): custom_resource_definition,
}


def load_balancer(service: Object) -> str:
    """Say whether a Service of type LoadBalancer still lacks its address."""
    if service["spec"].get("type") != "LoadBalancer":
        return ""
    given = service.get("status", {}).get("loadBalancer", {}).get("ingress")
    return "" if given else "no address was allocated; does the cluster have a load balancer?"


def has_endpoints(service: Object) -> bool:
    """Tell whether a Service finds its endpoints by itself, so that there is something to wait for."""
    spec = service["spec"]
    return bool(spec.get("selector")) and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None"


def endpoints(slices: Sequence[Object]) -> tuple[int, int]:
    """Count a Service's endpoints that are (ready, not ready)."""
    states = [
        endpoint.get("conditions", {}).get("ready", True) is not False
        for slice_ in slices
        for endpoint in slice_.get("endpoints") or []
    ]
    return states.count(True), states.count(False)


def pod_troubles(obj: Object) -> list[str]:
    """Return what keeps a pod from being ready, a line each; empty for one that is fine."""
    status, name = obj.get("status", {}), obj["metadata"]["name"]
    lines = []
    for condition in _conditions(obj):
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            lines.append(f"pod {name}: {condition.get('reason', '')}: {condition.get('message', '')}")
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state, last = container.get("state", {}), container.get("lastState", {}).get("terminated")
        where = f"pod {name}: container {container['name']}"
        if waiting := state.get("waiting"):
            lines.append(f"{where}: {waiting.get('reason', 'waiting')}: {waiting.get('message', '')}".rstrip(": "))
        elif (ended := state.get("terminated")) and ended.get("exitCode"):
            lines.append(f"{where}: {ended.get('reason', 'ended')}, exit code {ended['exitCode']}")
        elif not container.get("ready") and "running" in state:
            lines.append(f"{where}: running but not ready")
        if last and last.get("exitCode"):
            text = (last.get("message") or "").strip()
            lines.append(f"{where}: ended before with exit code {last['exitCode']}" + (f": {text}" if text else ""))
    if not lines and status.get("phase", "Pending") == "Pending":
        lines.append(f"pod {name}: Pending" + ("" if obj["spec"].get("nodeName") else ", not on a node yet"))
    return lines


def _conditions(obj: Object) -> Sequence[Object]:
    return obj.get("status", {}).get("conditions") or []


def _unobserved(obj: Object) -> str:
    generation, observed = obj["metadata"].get("generation", 0), obj.get("status", {}).get("observedGeneration", 0)
    return "" if observed >= generation else "the controller has not seen it yet"


def _reasons(obj: Object, *types: str, when: str = "False") -> str:
    found = [
        f"[{item.get('reason', '')}] {item.get('message', '')}"
        for item in _conditions(obj)
        if item["type"] in types and item["status"] == when
    ]
    return ": " + "; ".join(found) if found else ""
