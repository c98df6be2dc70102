"""Turns the manifests that a chart renders to into resources: their names, and which must come before which.

Names and order are those of Pulumi's provider, so that both engines show the same resources.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from lab.engine.providers import kube_objects
from lab.engine.providers.base import Child, ProviderError
from lab.engine.providers.kube_client import KubeClient, NoKind
from lab.engine.values import Secret

_DEPENDS_ON: Final = "config.kubernetes.io/depends-on"
Object = Mapping[str, Any]


def children(
    objects: Iterable[Object], prefix: str, namespace: str, client: KubeClient, *, skip_await: bool
) -> list[Child]:
    """Return a resource for each manifest.

    Args:
        objects: The manifests as rendered.
        prefix: What the resources' names begin with: the chart's name.
        namespace: Where objects go that name no namespace and belong into one.
        client: Knows which kinds are namespaced.
        skip_await: Whether nothing is waited for.
    """
    manifests = [item for obj in objects for item in _expanded(obj)]
    scopes = {
        (item["spec"]["group"], item["spec"]["names"]["kind"]): item["spec"].get("scope") == "Namespaced"
        for item in manifests
        if item.get("kind") == "CustomResourceDefinition"
    }
    placed = [_placed(item, namespace, client, scopes) for item in manifests]
    names = [f"{prefix}:{kube_objects.identity(item)}" if prefix else kube_objects.identity(item) for item in placed]
    return _sorted(
        Child(kube_objects.type_of(item), name, _inputs(item, skip_await=skip_await), _before(item, placed, names))
        for item, name in zip(placed, names, strict=True)
    )


def resource_names(objects: Iterable[Object | None]) -> dict[str, list[str]]:
    """Return the names of objects under `Kind.group/version`, as a release's `resourceNames` lists them."""
    found: dict[str, set[str]] = {}
    for obj in objects:
        if not obj:
            continue
        group = obj["apiVersion"].rpartition("/")[0]
        key = f"{obj['kind']}{'.' + group if group else ''}/{obj['apiVersion']}"
        found.setdefault(key, set()).add(kube_objects.identity(obj))
    return {key: sorted(names) for key, names in sorted(found.items())}


def _expanded(obj: Object) -> list[Object]:
    if not obj.get("kind") or not obj.get("apiVersion"):
        raise ProviderError(f"the chart renders an object without kind or apiVersion: {str(dict(obj))[:100]}")
    if obj["kind"].endswith("List") and isinstance(obj.get("items"), list):
        return [item for inner in obj["items"] for item in _expanded(inner)]
    if not (obj.get("metadata") or {}).get("name"):
        raise ProviderError(f"the chart renders a {obj['kind']} without metadata.name")
    return [obj]


def _placed(obj: Object, namespace: str, client: KubeClient, scopes: Mapping[tuple[str, str], bool]) -> Object:
    if obj["metadata"].get("namespace"):
        return obj
    group = obj["apiVersion"].rpartition("/")[0]
    try:
        namespaced = client.kind(obj["apiVersion"], obj["kind"]).namespaced
    except NoKind:
        namespaced = scopes.get((group, obj["kind"]), False)
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}} if namespaced else obj


def _inputs(obj: Object, *, skip_await: bool) -> dict[str, Any]:
    result = dict(obj)
    if skip_await:
        annotations = {**(obj["metadata"].get("annotations") or {}), kube_objects.SKIP_AWAIT: "true"}
        result["metadata"] = {**obj["metadata"], "annotations": annotations}
    if (obj["apiVersion"], obj["kind"]) == ("v1", "Secret"):
        result |= {key: Secret(obj[key]) for key in ("data", "stringData") if obj.get(key)}
    return result


def _before(obj: Object, objects: list[Object], names: list[str]) -> tuple[str, ...]:
    """Return what must exist before an object: its namespace, its kind's definition, what its annotation names."""
    kind = (obj["apiVersion"].rpartition("/")[0], obj["kind"])
    named = {part.strip() for part in kube_objects.annotation(obj, _DEPENDS_ON).split(",")} - {""}

    def precedes(other: Object) -> bool:
        metadata, spec = other["metadata"], other.get("spec") or {}
        makes_namespace = other["kind"] == "Namespace" and metadata["name"] == obj["metadata"].get("namespace")
        defines_kind = other["kind"] == "CustomResourceDefinition" and (spec["group"], spec["names"]["kind"]) == kind
        return makes_namespace or defines_kind or _reference(other) in named

    return tuple(name for other, name in zip(objects, names, strict=True) if other is not obj and precedes(other))


def _sorted(children: Iterable[Child]) -> list[Child]:
    """Put every child behind those that it depends on, otherwise in the order that Helm installs in."""
    waiting, done = list(children), []
    while waiting:
        names = {child.name for child in waiting}
        free = [child for child in waiting if not (set(child.depends_on) - {child.name}) & names]
        if not free:
            circle = ", ".join(child.name for child in waiting)
            raise ProviderError(f"the chart's objects depend on each other in a circle: {circle}")
        done += free
        waiting = [child for child in waiting if child not in free]
    return done


def _reference(obj: Object) -> str:
    group, metadata = obj["apiVersion"].rpartition("/")[0], obj["metadata"]
    within = f"namespaces/{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{group}/{within}{obj['kind']}/{metadata['name']}"
