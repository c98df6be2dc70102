"""What the program finds of a mesh before it makes anything: an Istio, or an authority, that somebody else keeps.

Read at once and not as outputs, so that a preview says what does not fit, and knows what VMs get.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import re
import shlex
import subprocess
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pulumi
from cryptography.x509 import Certificate

import arguments
from components.ca import ADOPTED, FILES, SECRET, Ca
from components.common import ISTIO_API
from components.control_plane import ControlPlaneArgs
from components.existing import GATEWAY, Facts, FoundIstio, Wanted, judge
from components.kubectl import ClusterAccess, kubectl
from components.values import ISTIO_NAMESPACE, NETWORK_LABEL, suffixed
from settings import Settings, authority
from settings.problems import Refused

MANAGERS = "--show-managed-fields"
_CERTIFICATES = (
    '{{range $name, $value := .data}}{{$name}} {{if eq $name "ca-key.pem"}}there{{else}}{{$value}}{{end}}{{"\\n"}}'
    "{{end}}"
)
"""Prints a Secret but for its private key."""


def control_plane_args(stack: Settings, access: ClusterAccess) -> ControlPlaneArgs:
    """The control plane that the stack asks for, with what is there for it already."""
    ca = authority_of(stack, access)
    return arguments.control_plane_args(stack, ca, adopt_namespace=has_namespace(stack, access))


def authority_of(stack: Settings, access: ClusterAccess, now: datetime | None = None) -> Ca | None:
    """The authority that the stack names, if any; a warning is told of one that runs out soon."""
    if stack.istio.ca_secret is None:
        return None
    found = stack.authority or _kept(access)
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


def _kept(access: ClusterAccess) -> authority.Authority:
    """The authority in the Secret that somebody else keeps."""
    place = f"istio.caSecret.existing: Secret {ISTIO_NAMESPACE}/{SECRET}"
    where = ("get", "secret", SECRET, f"--namespace={ISTIO_NAMESPACE}", "--ignore-not-found")
    said = run(kubectl(access, *where, "-o", f"go-template={_CERTIFICATES}"))
    parts = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
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


def has_namespace(stack: Settings, access: ClusterAccess) -> bool:
    """Whether somebody else has made istiod's namespace, to keep the authority in it.

    One that this stack has made bears the network's label, but not the mark of one that it has found.
    """
    if stack.istio.ca_secret is None or stack.istio.ca_secret.existing is None:
        return False
    return not made_here(json.loads(run(kubectl(access, "get", "namespace", ISTIO_NAMESPACE, "-o", "json", MANAGERS))))


def made_here(namespace: Mapping[str, Any]) -> bool:
    """Whether a stack has made a namespace, rather than put its label on one that was there."""
    if ADOPTED in (namespace["metadata"].get("annotations") or {}):
        return False
    return any(
        entry.get("manager", "").startswith("pulumi-kubernetes")
        and f"f:{NETWORK_LABEL}" in entry.get("fieldsV1", {}).get("f:metadata", {}).get("f:labels", {})
        for entry in namespace["metadata"].get("managedFields", [])
    )


def settled(stack: Settings, access: ClusterAccess) -> tuple[Settings, FoundIstio | None]:
    """The stack with what an Istio that was found says in place of what it leaves out, and that Istio."""
    istio = stack.istio
    if istio.install == "helm":
        return stack, None
    found = judge(_wanted(stack), facts(access, istio.revision))
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


def facts(access: ClusterAccess, revision: str) -> Facts:
    """What a cluster says of an istiod."""
    istiod = suffixed("istiod", revision)
    names = {
        "namespace": f"namespace/{ISTIO_NAMESPACE}",
        "mesh": f"configmap/{suffixed('istio', revision)}",
        "injector": f"configmap/{suffixed('istio-sidecar-injector', revision)}",
        "istiod": f"deployment/{istiod}",
        "gateway": f"deployment/{GATEWAY}",
    }
    inside = f"--namespace={ISTIO_NAMESPACE}"
    text = run(kubectl(access, "get", *names.values(), inside, "--ignore-not-found", "-o", "json", MANAGERS))
    answer = json.loads(text) if text.strip() else {"items": []}
    there = {f"{obj['kind'].lower()}/{obj['metadata']['name']}": obj for obj in answer.get("items", [answer])}
    if names["istiod"] not in there:
        others = run(kubectl(access, "get", "deployments", inside, "-l", "app=istiod", "-o", "name"))
        return Facts(version="", kinds=frozenset(), revisions=tuple(other.split("/")[1] for other in others.split()))
    service = f"/api/v1/namespaces/{ISTIO_NAMESPACE}/services/{istiod}:15014/proxy/version"
    version = _version(run(kubectl(access, "get", "--raw", service), otherwise=""))
    served = json.loads(run(kubectl(access, "get", "--raw", f"/apis/{ISTIO_API}"), otherwise="{}"))
    kinds = frozenset(kind["name"] for kind in served.get("resources", []))
    return Facts(
        version=version,
        kinds=kinds,
        namespace=there.get(names["namespace"]),
        istiod=there[names["istiod"]],
        mesh=there.get(names["mesh"]),
        injector=there.get(names["injector"]),
        gateway=there.get(names["gateway"]),
    )


def _version(text: str) -> str:
    """The version of what istiod calls itself, as `1.31.1-<commit>-Clean`."""
    match = re.match(r"\d+\.\d+\.\d+(-(alpha|beta|rc)\.\d+)?", text)
    return match[0] if match else ""


def run(command: str, otherwise: str | None = None) -> str:
    """What a kubectl command prints; a failure ends the program with what kubectl said, unless there is another way."""
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        raise pulumi.RunError("kubectl is not on PATH: https://kubernetes.io/docs/tasks/tools/") from None
    except subprocess.TimeoutExpired:
        raise pulumi.RunError("the Kubernetes API did not answer within 30 s") from None
    if done.returncode == 0:
        return done.stdout
    if otherwise is not None:
        return otherwise
    said = [line for line in done.stderr.strip().splitlines() if line]
    raise pulumi.RunError(f"the Kubernetes API gave no answer: {said[-1] if said else 'kubectl failed'}")
