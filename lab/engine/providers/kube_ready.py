"""Tells of live objects whether they are ready, and if not, what they lack. Pure functions on what the API server says.

Deployments, Services, definitions of custom resources, and whatever has the annotation `pulumi.com/waitFor`; anything
else is ready as soon as it exists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from lab.engine.diffs import MISSING, get, parse_path

Object = Mapping[str, Any]
Check = Callable[[Object], str]
"""Says what an object lacks, "" where it is ready."""


class Failed(Exception):
    """The object will never be ready; waiting on is pointless."""


def deployment(obj: Object) -> str:
    """Say what a Deployment's rollout lacks."""
    status, wanted = obj.get("status", {}), obj["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) < obj["metadata"].get("generation", 0):
        return "the controller has not seen it yet"
    updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
    available = status.get("availableReplicas", 0)
    if updated < wanted:
        return f"{updated} of {wanted} replicas are updated" + _reasons(obj, "Progressing", "Available")
    if total > updated:
        return f"{total - updated} old replicas are still there"
    if available < updated:
        return f"{available} of {updated} updated replicas are available" + _reasons(obj, "Progressing", "Available")
    return ""


def custom_resource_definition(obj: Object) -> str:
    """Say whether the API server serves the new kind."""
    status = {item["type"]: item["status"] for item in _conditions(obj)}
    if status.get("NamesAccepted") == "False":
        raise Failed("the names are taken" + _reasons(obj, "NamesAccepted"))
    return "" if status.get("Established") == "True" else "it is not established" + _reasons(obj, "Established")


READY: Final[Mapping[tuple[str, str], Check]] = {
    ("apps/v1", "Deployment"): deployment,
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
    found = [endpoint for slice_ in slices for endpoint in slice_.get("endpoints") or []]
    states = [endpoint.get("conditions", {}).get("ready", True) is not False for endpoint in found]
    return states.count(True), states.count(False)


def wait_for(annotation: str) -> Check:
    """Read `pulumi.com/waitFor`: `jsonpath={.a.b[0]}`, `jsonpath={...}=value`, `condition=Ready[=False]`, or a list.

    Raises:
        ValueError: It is malformed, or needs more of JSONPath than fields and indices.
    """
    try:
        values = json.loads(annotation)
    except ValueError:
        values = annotation
    texts = values if isinstance(values, list) else [annotation]
    if not texts:
        raise ValueError("at least one condition must be given")
    checks = [_one(text) for text in texts]
    return lambda obj: "; ".join(filter(None, (check(obj) for check in checks)))


def _one(text: Any) -> Check:
    form, _, rest = str(text).partition("=")
    if form == "condition":
        type_, _, status = rest.partition("=")
        return partial(_condition, type_, status or "True")
    if form != "jsonpath":
        raise ValueError(f'expected a "jsonpath=" or "condition=" prefix, got {text!r}')
    match = re.fullmatch(r"\{\s*\$?(.*?)\s*\}(?:=(.+))?", rest)
    if match is None:
        raise ValueError(f"{text!r} should be jsonpath={{.path}} or jsonpath={{.path}}=value")
    if not re.fullmatch(r"""(\.[\w-]+|\[(\d+|'[^']+'|"[^"]+")\])+""", match[1]):
        raise ValueError(f"the embedded engine reads only fields and indices in a path, not {{{match[1]}}}")
    return partial(_value, match[1], match[2])


def _condition(type_: str, status: str, obj: Object) -> str:
    for condition in _conditions(obj):
        if condition.get("type", "").lower() != type_.lower():
            continue
        observed = condition.get("observedGeneration", obj["status"].get("observedGeneration"))
        if observed is not None and observed < obj.get("metadata", {}).get("generation", 0):
            return f"condition {type_} is of an older generation ({observed})"
        if str(condition.get("status")).lower() == status.lower():
            return ""
        why = ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
        return f"condition {type_} is {condition.get('status')}, not {status}" + (f" ({why})" if why else "")
    return f"condition {type_} is not there"


def _value(path: str, wanted: str | None, obj: Object) -> str:
    value = get(obj, parse_path(path.replace("'", '"')))
    if value is MISSING:
        return f"{{{path}}} selects nothing"
    shown = value if isinstance(value, str) else json.dumps(value)
    return "" if wanted in (None, shown) else f"{{{path}}} is {shown}, not {wanted}"


def _conditions(obj: Object) -> Sequence[Object]:
    return obj.get("status", {}).get("conditions") or []


def _reasons(obj: Object, *types: str) -> str:
    found = [
        f"[{item.get('reason', '')}] {item.get('message', '')}"
        for item in _conditions(obj)
        if item["type"] in types and item["status"] == "False"
    ]
    return ": " + "; ".join(found) if found else ""
