"""What the Kubernetes provider knows about objects as such: names, identities, annotations, fields that cannot change.

Pure functions on manifests; nothing here talks to a cluster.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, Final

from lab.engine.diffs import Path
from lab.engine.values import UNKNOWN, Secret

SKIP_AWAIT: Final = "pulumi.com/skipAwait"
TIMEOUT: Final = "pulumi.com/timeoutSeconds"
PATCH_FORCE: Final = "pulumi.com/patchForce"
_SERVER_OWNED: Final = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "uid",
)
_IMMUTABLE: Final[Mapping[tuple[str, str], tuple[Path, ...]]] = {
    ("v1", "Secret"): (("type",), ("data",), ("stringData",)),
    ("v1", "ConfigMap"): (("data",), ("binaryData",)),
    ("v1", "Service"): (("spec", "clusterIP"),),
    ("apps/v1", "Deployment"): (("spec", "selector"),),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): (("roleRef",),),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): (("roleRef",),),
}
"""Changes that force a replacement, as in Pulumi's list; of other kinds, the API server refuses such a change."""


def kind_of(type_: str) -> tuple[str, str]:
    """Read apiVersion and kind from a type token: `kubernetes:core/v1:Service` -> ("v1", "Service")."""
    _, group_version, kind = type_.split(":", 2)
    return group_version.removeprefix("core/"), kind.removesuffix("Patch") if is_patch(type_) else kind


def is_patch(type_: str) -> bool:
    """Tell whether this type owns some fields of an object that somebody else has made."""
    return type_.endswith("Patch") and "/" in type_


def released(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is applied to give up every field of an object: those that nobody else owns go away."""
    metadata = {key: obj["metadata"][key] for key in ("name", "namespace") if obj["metadata"].get(key)}
    return {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata}


def type_of(obj: Mapping[str, Any]) -> str:
    """Write an object's type token."""
    version = obj["apiVersion"]
    return f"kubernetes:{version if '/' in version else f'core/{version}'}:{obj['kind']}"


def annotation(obj: Mapping[str, Any], name: str) -> str:
    """Return an annotation's value, "" where there is none (or none that is known yet)."""
    metadata = obj.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, Mapping) else None
    value = annotations.get(name) if isinstance(annotations, Mapping) else None
    return value if isinstance(value, str) else ""


def identity(obj: Mapping[str, Any]) -> str:
    """Return the id: `namespace/name`, or `name` for what has no namespace."""
    metadata = obj["metadata"]
    return "/".join(part for part in (metadata.get("namespace"), metadata["name"]) if part)


def normalised(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object without what the server owns, and a Secret's `stringData` as `data`, for comparing."""
    result = {key: value for key, value in obj.items() if value is not None}
    if isinstance(result.get("metadata"), Mapping):
        result["metadata"] = {key: value for key, value in result["metadata"].items() if key not in _SERVER_OWNED}
    if (result.get("apiVersion"), result.get("kind")) == ("v1", "Secret") and isinstance(
        result.get("stringData"), Mapping
    ):
        texts = result.pop("stringData")
        encoded = {
            key: base64.b64encode(value.encode()).decode() if isinstance(value, str) else value
            for key, value in texts.items()
        }
        result["data"] = {**(result.get("data") or {}), **encoded}
    if result.get("kind") == "CustomResourceDefinition":
        result.pop("status", None)
    return result


def replacing(obj: Mapping[str, Any]) -> list[Path]:
    """Return the paths whose change forces a replacement of an object of this kind."""
    kind = (str(obj.get("apiVersion")), str(obj.get("kind")))
    return [("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace"), *_IMMUTABLE.get(kind, ())]


def field_manager(outputs: Mapping[str, Any], urn: str) -> str:
    """Return the name under which fields are owned: one per resource, so that a second run is the same owner."""
    return str(outputs.get("__fieldManager") or f"pulumi-kubernetes-{hashlib.sha256(urn.encode()).hexdigest()[:8]}")


def is_ours(live: Mapping[str, Any], manager: str) -> bool:
    """Tell whether this resource applied the live object: so it was made by a run that died before it could say so."""
    return any(entry.get("manager") == manager for entry in live["metadata"].get("managedFields", []))


def wire(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest to send: without None and without what only Pulumi uses."""
    sent = {key: value for key, value in obj.items() if not key.startswith("__")}
    result: dict[str, Any] = _spelt(sent, "x_kubernetes_", ("_", "-"))
    return result


def outputs_of(live: Mapping[str, Any], manager: str) -> dict[str, Any]:
    """Return what goes into state: the live object without bookkeeping, a Secret's content marked as such."""
    result: dict[str, Any] = _spelt(live, "x-kubernetes-", ("-", "_"))
    result["metadata"].pop("managedFields", None)
    if (live.get("apiVersion"), live.get("kind")) == ("v1", "Secret"):
        for key in ("data", "stringData"):
            if key in result:
                result[key] = Secret(result[key])
    return result | {"__fieldManager": manager}


def preview_of(dry: Mapping[str, Any], inputs: Mapping[str, Any], manager: str) -> dict[str, Any]:
    """Return what is foreseeable of a new object: what a dry run made up at random is left out."""
    result = outputs_of(dry, manager)
    result.pop("status", None)
    for key in ("uid", "creationTimestamp", "resourceVersion", "generation"):
        result["metadata"].pop(key, None)
    if result.get("kind") == "Service" and isinstance(result.get("spec"), dict):
        given = inputs.get("spec") or {}
        for key in ("clusterIP", "clusterIPs", "healthCheckNodePort"):
            if key in result["spec"] and key not in given:
                result["spec"][key] = UNKNOWN
    return result


def _spelt(value: Any, prefix: str, change: tuple[str, str]) -> Any:
    """Return a copy without None, and with the fields of a CustomResourceDefinition that the SDK spells its own way."""
    if isinstance(value, Mapping):
        given = {key: item for key, item in value.items() if item is not None}
        names = {key: key.replace(*change) if key.startswith(prefix) else key for key in given}
        return {names[key]: _spelt(item, prefix, change) for key, item in given.items()}
    return [_spelt(item, prefix, change) for item in value] if isinstance(value, list | tuple) else value
