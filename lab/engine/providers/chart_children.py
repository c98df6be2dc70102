"""Turns the manifests that a chart renders to into resources: their names, and which must come before which.

Names are those of Pulumi's provider, so that both engines show the same resources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lab.engine.providers import kube_objects
from lab.engine.providers.base import Child, ProviderError
from lab.engine.values import Secret

Object = Mapping[str, Any]


def children(
    objects: Iterable[Object],
    prefix: str,
    namespace: str,
    is_namespaced: Callable[[str, str], bool],
    *,
    skip_await: bool,
) -> list[Child]:
    """Return a resource for each manifest.

    Args:
        objects: The manifests as rendered.
        prefix: What the resources' names begin with: the chart's name.
        namespace: Where objects go that name no namespace and belong into one.
        is_namespaced: Tells of apiVersion and kind whether they belong into one.
        skip_await: Whether nothing is waited for.
    """
    placed: list[Object] = []
    for obj in (item for outer in objects for item in _expanded(outer)):
        metadata = {**obj["metadata"]}
        if not metadata.get("namespace") and is_namespaced(obj["apiVersion"], obj["kind"]):
            metadata["namespace"] = namespace
        placed.append({**obj, "metadata": metadata})
    names = [f"{prefix}:{kube_objects.identity(item)}" if prefix else kube_objects.identity(item) for item in placed]
    return [
        Child(kube_objects.type_of(item), name, _inputs(item, skip_await=skip_await), _before(item, placed, names))
        for item, name in zip(placed, names, strict=True)
    ]


def _expanded(obj: Object) -> list[Object]:
    if not obj.get("kind") or not obj.get("apiVersion"):
        raise ProviderError(f"the chart renders an object without kind or apiVersion: {str(dict(obj))[:100]}")
    if obj["kind"].endswith("List") and isinstance(obj.get("items"), list):
        return [item for inner in obj["items"] for item in _expanded(inner)]
    if not (obj.get("metadata") or {}).get("name"):
        raise ProviderError(f"the chart renders a {obj['kind']} without metadata.name")
    return [obj]


def _inputs(obj: Object, *, skip_await: bool) -> dict[str, Any]:
    result = dict(obj)
    if skip_await:
        annotations = {**(obj["metadata"].get("annotations") or {}), kube_objects.SKIP_AWAIT: "true"}
        result["metadata"] = {**obj["metadata"], "annotations": annotations}
    if (obj["apiVersion"], obj["kind"]) == ("v1", "Secret"):
        result |= {key: Secret(obj[key]) for key in ("data", "stringData") if obj.get(key)}
    return result


def _before(obj: Object, objects: list[Object], names: list[str]) -> tuple[str, ...]:
    """Return what must exist before an object: its namespace, its kind's definition."""
    kind = (obj["apiVersion"].rpartition("/")[0], obj["kind"])

    def precedes(other: Object) -> bool:
        metadata, spec = other["metadata"], other.get("spec") or {}
        makes_namespace = other["kind"] == "Namespace" and metadata["name"] == obj["metadata"].get("namespace")
        defines_kind = other["kind"] == "CustomResourceDefinition" and (spec["group"], spec["names"]["kind"]) == kind
        return makes_namespace or defines_kind

    return tuple(name for other, name in zip(objects, names, strict=True) if other is not obj and precedes(other))
