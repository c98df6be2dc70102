"""What the program finds of a mesh before it makes anything: an Istio, or an authority, that somebody else keeps.

Read at once and not as outputs, so that a preview says what does not fit, and knows what VMs get.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import pulumi
from cryptography.x509 import Certificate

import arguments
from cluster.client import ApiError, Client
from components.ca import ADOPTED, FILES, SECRET, Ca
from components.common import ISTIO_API
from components.control_plane import ControlPlaneArgs
from components.existing import GATEWAY, Facts, FoundIstio, Wanted, judge
from components.helm_record import forgotten_first
from components.values import BASE_RELEASE, ISTIO_NAMESPACE, NETWORK_LABEL, suffixed
from settings import Settings, authority
from settings.problems import Refused

Value = TypeVar("Value")


def control_plane_args(stack: Settings, client: Client) -> ControlPlaneArgs:
    """The control plane that the stack asks for, with what is there for it already."""
    ca = authority_of(stack, client)
    args = arguments.control_plane_args(stack, client.get, ca, adopt_namespace=has_namespace(stack, client))
    return dataclasses.replace(args, base_hooks=forgotten_first(client, ISTIO_NAMESPACE, BASE_RELEASE))


def authority_of(stack: Settings, client: Client, now: datetime | None = None) -> Ca | None:
    """The authority that the stack names, if any; a warning is told of one that runs out soon."""
    if stack.istio.ca_secret is None:
        return None
    found = stack.authority or _kept(client)
    if warning := found.warning(now or authority.utc_now()):
        pulumi.log.warn(warning)
    key = found.key.get_secret_value()
    return Ca(
        certificate=found.certificate,
        chain=found.chain,
        root=found.root,
        anchor=found.anchor,
        key=pulumi.Output.secret(key) if stack.authority else None,
    )


def _kept(client: Client) -> authority.Authority:
    """The authority in the Secret that somebody else keeps; its private key stays there."""
    place = f"istio.caSecret.existing: Secret {ISTIO_NAMESPACE}/{SECRET}"
    found = _answered(lambda: client.get(f"/api/v1/namespaces/{ISTIO_NAMESPACE}/secrets/{SECRET}")) or {}
    parts = {name: "" if name == "ca-key.pem" else text for name, text in (found.get("data") or {}).items()}
    missing = [name for name in FILES.values() if name not in parts]
    if missing:
        what = f"has no {', '.join(missing)}" if parts else "is not there"
        raise pulumi.RunError(f"{place} {what}, make it before this stack, or give istio.caSecret the files")
    try:
        own, links, roots = (_certificates(parts[FILES[key]]) for key in ("certificate", "chain", "root"))
        return authority.authority_of(authority.only(own), links, roots, authority.utc_now())
    except Refused as refused:
        raise pulumi.RunError(f"{place}: {refused.what}, {refused.right}") from None


def _certificates(encoded: str) -> list[Certificate]:
    try:
        return authority.certificates(base64.b64decode(encoded).decode())
    except (binascii.Error, UnicodeDecodeError):
        raise Refused("holds no text", "PEM certificates") from None


def has_namespace(stack: Settings, client: Client) -> bool:
    """Whether somebody else has made istiod's namespace, to keep the authority in it.

    One that this stack has made bears the network's label, but not the mark of one that it has found.
    """
    if stack.istio.ca_secret is None or stack.istio.ca_secret.existing is None:
        return False
    found = _answered(lambda: client.get(f"/api/v1/namespaces/{ISTIO_NAMESPACE}"))
    return found is not None and not made_here(found)


def made_here(namespace: Mapping[str, Any]) -> bool:
    """Whether a stack has made a namespace, rather than put its label on one that was there."""
    if ADOPTED in (namespace["metadata"].get("annotations") or {}):
        return False
    return any(
        entry.get("manager", "").startswith("pulumi-kubernetes")
        and f"f:{NETWORK_LABEL}" in entry.get("fieldsV1", {}).get("f:metadata", {}).get("f:labels", {})
        for entry in namespace["metadata"].get("managedFields", [])
    )


def settled(stack: Settings, client: Client) -> tuple[Settings, FoundIstio | None]:
    """The stack with what an Istio that was found says in place of what it leaves out, and that Istio."""
    istio = stack.istio
    if istio.install == "helm":
        return stack, None
    found = judge(_wanted(stack), facts(client, istio.revision))
    if isinstance(found, list):
        lines = "\n".join(f"  {reason}" for reason in found)
        raise pulumi.RunError(f"the Istio that is there cannot take this stack's VMs:\n{lines}")
    said = {"version": found.version, "mesh_id": found.mesh_id, "trust_domain": found.trust_domain}
    return dataclasses.replace(stack, istio=istio.model_copy(update=said)), found


def _wanted(stack: Settings) -> Wanted:
    istio = stack.istio
    return Wanted(
        cluster=stack.cluster.name,
        network=stack.cluster.network,
        revision=istio.revision,
        version=istio.version,
        mesh_id=istio.mesh_id if "mesh_id" in istio.model_fields_set else "",
        trust_domain=istio.trust_domain if "trust_domain" in istio.model_fields_set else "",
        may_patch=istio.allow_patches,
        makes_gateway=stack.east_west_gateway.service != "none",
    )


def facts(client: Client, revision: str) -> Facts:
    """What a cluster says of an istiod."""
    namespace, istiod = f"/api/v1/namespaces/{ISTIO_NAMESPACE}", suffixed("istiod", revision)
    deployments = f"/apis/apps/v1/namespaces/{ISTIO_NAMESPACE}/deployments"

    def read(path: str) -> dict[str, Any] | None:
        return _answered(lambda: client.get(path))

    found = read(f"{deployments}/{istiod}")
    if found is None:
        others = _answered(lambda: client.items(deployments, "app=istiod"))
        return Facts(version="", kinds=frozenset(), revisions=tuple(other["metadata"]["name"] for other in others))
    # Neither has to be readable: what is not known of them is judged as such.
    version = _or_nothing(lambda: client.get_text(f"{namespace}/services/{istiod}:15014/proxy/version"), "")
    served = _or_nothing(lambda: client.get(f"/apis/{ISTIO_API}"), None) or {}
    return Facts(
        version=_version(version),
        kinds=frozenset(kind["name"] for kind in served.get("resources", [])),
        namespace=read(namespace),
        istiod=found,
        mesh=read(f"{namespace}/configmaps/{suffixed('istio', revision)}"),
        injector=read(f"{namespace}/configmaps/{suffixed('istio-sidecar-injector', revision)}"),
        gateway=read(f"{deployments}/{GATEWAY}"),
    )


def _version(text: str) -> str:
    """The version of what istiod calls itself, as `1.31.1-<commit>-Clean`."""
    match = re.match(r"\d+\.\d+\.\d+(-(alpha|beta|rc)\.\d+)?", text)
    return match[0] if match else ""


def _answered(ask: Callable[[], Value]) -> Value:
    """What the cluster answers; that it does not ends the program."""
    try:
        return ask()
    except ApiError as error:
        raise pulumi.RunError(str(error)) from None


def _or_nothing(ask: Callable[[], Value], otherwise: Value) -> Value:
    try:
        return ask()
    except ApiError:
        return otherwise
