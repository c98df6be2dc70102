"""An Istio that somebody else has installed: whether VMs can join it, and the little that is changed in it for them.

What is judged here was read before the program makes anything (`mesh.py`), so a preview refuses as `up` does.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_command as command
import yaml

from cluster.objects import Get, made_by_pulumi
from components.common import ISTIO_API
from components.control_plane import Istiod, network_label, root_of_mesh
from components.kubectl import ClusterAccess, kubectl
from components.values import ISTIO_NAMESPACE, NETWORK_LABEL, TRUST_DOMAIN, plain_revision, suffixed

SWITCHES = ("PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION", "PILOT_ENABLE_WORKLOAD_ENTRY_HEALTHCHECKS")
"""Variables of istiod without which no VM registers, or is known to be healthy; on unless they are said to be off."""
WAS = "istio-vm-mesh/was"
"""Annotation of istiod's Deployment: the switches that a stack has switched on, with their values before."""
GATEWAY = "istio-eastwestgateway"
_OFF = {"0", "f", "F", "FALSE", "false", "False"}
_KINDS = ("workloadgroups", "workloadentries")
_ROLLOUT_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a stack says of the Istio that it finds; empty: nothing."""

    cluster: str
    network: str
    revision: str = ""
    version: str = ""
    mesh_id: str = ""
    trust_domain: str = ""
    may_patch: bool = False
    """Whether istiod's switches may be set."""
    makes_gateway: bool = False
    """Whether the stack makes an east-west gateway."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the cluster says of its Istio; None for what is not there."""

    version: str
    """As istiod says it; empty where it does not answer."""
    kinds: frozenset[str]
    """Kinds that the API server knows in Istio's group of version v1, by their plural names."""
    namespace: Mapping[str, Any] | None = None
    istiod: Mapping[str, Any] | None = None
    """Its Deployment."""
    mesh: Mapping[str, Any] | None = None
    """ConfigMap `istio`."""
    injector: Mapping[str, Any] | None = None
    """ConfigMap `istio-sidecar-injector`."""
    gateway: Mapping[str, Any] | None = None
    """Deployment of an east-west gateway."""
    revisions: tuple[str, ...] = ()
    """Names of Deployments of istiods."""


@dataclass(frozen=True, kw_only=True)
class FoundIstio:
    """An Istio that VMs can join."""

    version: str
    mesh_id: str
    trust_domain: str
    mesh_config: dict[str, Any]
    switches: Mapping[str, str] = field(default_factory=dict)
    """Switches that this program sets, with their values before."""
    off_again: tuple[str, ...] = ()
    """Those of them that somebody has switched off since."""


def switched_off(env: Mapping[str, str | None]) -> dict[str, str]:
    """The switches that are off, with how that is said."""
    return {name: value for name in SWITCHES if (value := env.get(name)) is not None and value in _OFF}


def container_env(deployment: Mapping[str, Any]) -> dict[str, str | None]:
    """The environment of istiod's container; None for what comes from elsewhere."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    istiod = next((one for one in containers if one["name"] == "discovery"), containers[0])
    return {item["name"]: None if "valueFrom" in item else item.get("value", "") for item in istiod.get("env", [])}


def judge(wanted: Wanted, facts: Facts) -> FoundIstio | list[str]:
    """The Istio that was found, or why VMs cannot join it, each reason as `path: what, what to do`."""
    reasons = list(_missing(wanted, facts))
    if reasons or facts.istiod is None or facts.mesh is None or facts.injector is None:
        return reasons
    env = container_env(facts.istiod)
    mesh = yaml.load(facts.mesh["data"]["mesh"], Loader=yaml.CSafeLoader) or {}
    values = json.loads(facts.injector["data"]["values"])
    was = json.loads((facts.istiod["metadata"].get("annotations") or {}).get(WAS, "{}"))
    off = switched_off(env)
    reasons = [
        *_other_mesh(wanted, facts, env, mesh, values),
        *_cannot_enrol(env, values, mesh, wanted.revision),
        *_switches(wanted, env, off),
    ]
    if reasons:
        return reasons
    trust_domain = str(mesh.get("trustDomain") or TRUST_DOMAIN)
    return FoundIstio(
        version=facts.version,
        mesh_id=str((mesh.get("defaultConfig") or {}).get("meshId") or trust_domain),
        trust_domain=trust_domain,
        mesh_config=mesh,
        switches={**off, **was} if wanted.may_patch else {},
        off_again=tuple(name for name in off if name in was),
    )


def _missing(wanted: Wanted, facts: Facts) -> Iterator[str]:
    """What an Istio consists of and was not found."""
    istiod = suffixed("istiod", wanted.revision)
    if facts.istiod is None:
        others = [name for name in facts.revisions if name != istiod]
        there = f"there is {', '.join(others)}, give its revision" if others else "install Istio, or give install: helm"
        yield f"istio.install: no Deployment {ISTIO_NAMESPACE}/{istiod}, {there}"
        return
    for found, name in ((facts.mesh, "istio"), (facts.injector, "istio-sidecar-injector")):
        if found is None:
            full = f"{ISTIO_NAMESPACE}/{suffixed(name, wanted.revision)}"
            yield f"istio.install: no ConfigMap {full}, by which istiod is configured, install it whole"
    if absent := [kind for kind in _KINDS if kind not in facts.kinds]:
        kinds = " and ".join(absent)
        yield f"istio.install: the API server knows no {kinds} of version v1, install Istio 1.22 or newer"
    if not facts.istiod.get("status", {}).get("readyReplicas"):
        yield f"istio.install: {istiod} is not ready, see kubectl -n {ISTIO_NAMESPACE} describe deployment {istiod}"
    elif not facts.version:
        yield f"istio.install: {istiod} does not say its version (port 15014), let its Service have that port"


def _other_mesh(
    wanted: Wanted, facts: Facts, env: Mapping[str, str | None], mesh: Mapping[str, Any], values: Mapping[str, Any]
) -> Iterator[str]:
    """What the stack and the Istio say differently."""
    labels = ((facts.namespace or {}).get("metadata") or {}).get("labels") or {}
    global_ = values.get("global") or {}
    said = (
        ("cluster.name", wanted.cluster, env.get("CLUSTER_ID") or "Kubernetes", "istiod's cluster"),
        ("cluster.network", wanted.network, labels.get(NETWORK_LABEL), f"the network of {ISTIO_NAMESPACE}"),
        ("cluster.network", wanted.network, global_.get("network"), "the network of the cluster's pods"),
        ("istio.version", wanted.version, facts.version, "istiod's version"),
        ("istio.trustDomain", wanted.trust_domain, mesh.get("trustDomain") or TRUST_DOMAIN, "the mesh's trust domain"),
        ("istio.meshId", wanted.mesh_id, (mesh.get("defaultConfig") or {}).get("meshId"), "the mesh's"),
    )
    told = set()
    for path, given, found, what in said:
        if given and found and given != found and path not in told:
            told.add(path)
            yield f"{path}: {what} is {found} (got {json.dumps(given)}), give {found}"
    if wanted.makes_gateway and facts.gateway is not None and not made_by_pulumi(facts.gateway):
        yield (
            f"eastWestGateway.service: Deployment {ISTIO_NAMESPACE}/{GATEWAY} is there, and not of this stack, "
            "give service: none, and hosts.istiodAddress where that gateway leads to istiod"
        )


def _cannot_enrol(
    env: Mapping[str, str | None], values: Mapping[str, Any], mesh: Mapping[str, Any], revision: str
) -> Iterator[str]:
    """Why VMs could not get a certificate of this istiod."""
    outside = (values.get("global") or {}).get("caAddress")
    if outside or env.get("ENABLE_CA_SERVER") in _OFF:
        who = f"{outside} signs" if outside else "istiod does not sign"
        yield f"istio.install: {who} the mesh's certificates, and VMs enrol with istiod, let istiod sign"
    if env.get("AUDIENCE") not in (None, "", "istio-ca"):
        yield f"istio.install: istiod takes tokens for {env['AUDIENCE']}, and VMs' are for istio-ca, unset AUDIENCE"
    address = str((mesh.get("defaultConfig") or {}).get("discoveryAddress") or "")
    host = f"{suffixed('istiod', revision)}.{ISTIO_NAMESPACE}.svc"
    if address and address.rpartition(":")[0] != host:
        yield f"istio.install: proxies are led to {address}, and not to {host}, which VMs verify"


def _switches(wanted: Wanted, env: Mapping[str, str | None], off: Mapping[str, str]) -> Iterator[str]:
    """Switches that are off, or that cannot be seen, and may not be set."""
    for name in SWITCHES:
        if name in env and env[name] is None:
            yield f"istio.install: istiod's {name} comes from elsewhere (valueFrom), give it a value"
        elif name in off and not wanted.may_patch:
            right = "set it to true, or give istio.allowPatches: true"
            yield f"istio.install: istiod has {name}={off[name]}, without which VMs do not join, {right}"


def switch_on(access: ClusterAccess, revision: str, was: Mapping[str, str]) -> str:
    """A script that sets the switches, after a note of what they were."""
    istiod = (f"deployment/{suffixed('istiod', revision)}", f"--namespace={ISTIO_NAMESPACE}")
    note = f"{WAS}={json.dumps(dict(was), sort_keys=True)}"
    metadata = {"name": "istio-vm-mesh-asks", "namespace": ISTIO_NAMESPACE}
    group = {"apiVersion": ISTIO_API, "kind": "WorkloadGroup", "metadata": metadata, "spec": {"template": {}}}
    dry_run = kubectl(access, "create", "--dry-run=server", "--filename=-")
    asked = f"printf %s {shlex.quote(json.dumps(group))} | {dry_run}"
    return "\n".join(
        [
            "set -e",
            kubectl(access, "annotate", *istiod, "--overwrite", note),
            kubectl(access, "set", "env", *istiod, "--containers=discovery", *(f"{name}=true" for name in sorted(was))),
            kubectl(access, "rollout", "status", *istiod, f"--timeout={_ROLLOUT_SECONDS}s"),
            # For a moment more, some requests to its webhook are sent to the pod that is gone.
            f"asks() {{ {asked} >/dev/null; }}",
            "for _ in 1 2 3 4 5 6 7 8 9; do if (asks && asks && asks) 2>/dev/null; then exit 0; fi; sleep 1; done",
            "asks",
        ]
    )


def switch_back(access: ClusterAccess, revision: str, was: Mapping[str, str]) -> str:
    """A script that gives the switches their values from before; content where that istiod is gone."""
    istiod = (f"deployment/{suffixed('istiod', revision)}", f"--namespace={ISTIO_NAMESPACE}")
    values = [f"{name}={value}" for name, value in sorted(was.items())]
    return "\n".join(
        [
            "set -e",
            f"there=$({kubectl(access, 'get', *istiod, '--ignore-not-found', '-o=name')})",
            '[ -n "$there" ] || exit 0',
            kubectl(access, "set", "env", *istiod, "--containers=discovery", *values),
            kubectl(access, "annotate", *istiod, f"{WAS}-"),
            kubectl(access, "rollout", "status", *istiod, f"--timeout={_ROLLOUT_SECONDS}s"),
        ]
    )


@dataclass(frozen=True, kw_only=True)
class ExistingControlPlaneArgs:
    """The Istio that was found."""

    access: ClusterAccess
    get: Get
    """The cluster."""
    found: FoundIstio
    network: str
    """Network of the cluster's pods."""
    revision: str = ""


class ExistingControlPlane(pulumi.ComponentResource):
    """An Istio that somebody else has installed.

    Creates a NamespacePatch with the network's label and, where istiod's switches are to be set, a Command that sets
    them. Nothing forces a replacement. Destroying it gives the label and the switches back.

    Outputs: as those of `ControlPlane`.
    """

    istiod_host: str
    """Host name of istiod."""
    istiods: Mapping[str, Istiod]
    """The istiod that was found, by the plain name of its revision."""
    root_certificate: pulumi.Output[str]
    """The mesh's root of trust, PEM, one newline at its end."""
    ready: tuple[pulumi.Resource, ...]
    """What makes it take VMs."""

    def __init__(self, name: str, args: ExistingControlPlaneArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:ExistingControlPlane", name, None, opts)
        made = [network_label(self, name, args.network)]
        if args.found.switches:
            made.append(_switched(self, name, args))
        self.root_certificate = root_of_mesh(args.get)
        self.istiod_host = f"{suffixed('istiod', args.revision)}.{ISTIO_NAMESPACE}.svc"
        self.ready = tuple(made)
        istiod = Istiod(
            host=self.istiod_host, mesh_config=args.found.mesh_config, version=args.found.version, ready=self.ready
        )
        self.istiods = {plain_revision(args.revision): istiod}
        self.register_outputs({"istiodHost": self.istiod_host, "meshConfig": args.found.mesh_config})


def _switched(parent: pulumi.Resource, name: str, args: ExistingControlPlaneArgs) -> pulumi.Resource:
    """Istiod's switches, on; once more where somebody has switched one off since."""
    revision, was = plain_revision(args.revision), args.found.switches
    switched: pulumi.Resource = command.local.Command(
        f"{name}-switches",
        create=switch_on(args.access, revision, was),
        delete=switch_back(args.access, revision, was),
        logging=command.local.Logging.NONE,
        opts=pulumi.ResourceOptions(parent=parent),
    )
    if args.found.off_again:
        again = ", ".join(args.found.off_again)
        pulumi.log.warn(f"istio.allowPatches: istiod has {again} off again; `up` switches it on, as it did before")
        if not pulumi.runtime.is_dry_run():
            command.local.run_output(
                command=switch_on(args.access, revision, was),
                logging=command.local.Logging.NONE,
                opts=pulumi.InvokeOutputOptions(parent=parent, depends_on=[switched]),
            )
    return switched
