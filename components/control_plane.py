"""Istio's control plane from its Helm charts.

`base` is a Release because CRDs are dear as single resources; istiod is a Chart because its per-resource diff is worth
reading.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pulumi
import pulumi_kubernetes as kubernetes

from cluster.objects import Get
from components.ca import ADOPTED, SECRET, Ca, announcement
from components.cni import FOR_INJECTION, cni_chart, cni_values
from components.common import observed, when_there
from components.kubectl import ClusterAccess
from components.kubernetes_object import kubernetes_object
from components.residue import residue
from components.values import (
    BASE_RELEASE,
    ISTIO_NAMESPACE,
    NETWORK_LABEL,
    base_values,
    chart_reference,
    deep_merge,
    istiod_values,
    mesh_config,
    plain_revision,
    suffixed,
)

ROOT = "istio-ca-root-cert"
"""ConfigMap in which istiod says what the mesh's root of trust is."""
PEM_END = "-----END CERTIFICATE-----"


def certificate_digest(pem: str) -> str:
    """SHA-256 of the first certificate in a PEM text, as `openssl x509 -fingerprint -sha256` but in lower case."""
    first = pem[: pem.index(PEM_END) + len(PEM_END)]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RevisionArgs:
    """What one istiod has of its own."""

    charts: str
    version: str
    hub: str
    tag: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ControlPlaneArgs:
    """What the control plane is."""

    access: ClusterAccess
    get: Get
    """The cluster."""
    charts: str
    """Chart repository (`https://`, `oci://`) or a folder with `base` and `istiod`."""
    version: str
    """Version of the charts; unused with a folder."""
    hub: str
    """Image repository."""
    tag: str
    """Image tag."""
    mesh_id: str
    trust_domain: str
    cluster: str
    """Name of the cluster in the mesh."""
    network: str
    """Network of the cluster's pods."""
    revision: str = ""
    """Revision; empty for the default one."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """More values for the chart `istiod`, under those that the other fields make."""
    remove_crds: bool = False
    """Whether Istio's CRDs go with the control plane."""
    further: Mapping[str, RevisionArgs] = field(default_factory=dict)
    """Further istiods beside this one, by revision."""
    ca: Ca | None = None
    """The authority that istiod signs with; None: one of its own making."""
    cni: Mapping[str, Any] | None = None
    """More values for the chart `cni`, under those that the other fields make; None: it is not installed."""
    adopt_namespace: bool = False
    """Whether somebody else has made the namespace, and keeps it."""
    base_hooks: pulumi.ResourceHookBinding | None = None
    """What is done before the chart `base` is installed."""

    @property
    def revisions(self) -> dict[str, RevisionArgs]:
        """Every istiod by the plain name of its revision, the main one first."""
        main = RevisionArgs(charts=self.charts, version=self.version, hub=self.hub, tag=self.tag, values=self.values)
        further = {plain_revision(revision): istiod for revision, istiod in self.further.items()}
        return {plain_revision(self.revision): main, **further}


@dataclass(frozen=True, kw_only=True)
class Istiod:
    """One of the mesh's istiods."""

    host: str
    """Its host name, `istiod[-<revision>].istio-system.svc`."""
    mesh_config: dict[str, Any]
    """The MeshConfig, computed from the values."""
    version: str
    ready: tuple[pulumi.Resource, ...]
    """What makes it answer."""


def values_of(args: ControlPlaneArgs, revision: str, istiod: RevisionArgs) -> dict[str, Any]:
    """Values of an istiod's chart."""
    values = istiod_values(
        extra=istiod.values,
        hub=istiod.hub,
        tag=istiod.tag,
        mesh_id=args.mesh_id,
        trust_domain=args.trust_domain,
        cluster=args.cluster,
        network=args.network,
        revision=revision,
    )
    for own in (args.ca.values if args.ca else {}, {} if args.cni is None else FOR_INJECTION):
        values = deep_merge(values, own)
    return values


def computed_mesh_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """The MeshConfig of an istiod; values whose effect on VMs is not known end the run."""
    try:
        return mesh_config(values)
    except ValueError as error:
        raise pulumi.RunError(str(error)) from None


class Mesh(Protocol):
    """What others need of a control plane, however it got there."""

    @property
    def istiod_host(self) -> str:
        """Host name of istiod."""

    @property
    def istiods(self) -> Mapping[str, Istiod]:
        """Every istiod, by the plain name of its revision."""

    @property
    def root_certificate(self) -> pulumi.Output[str]:
        """The mesh's root of trust."""

    @property
    def ready(self) -> tuple[pulumi.Resource, ...]:
        """What makes Istio's kinds usable."""


class ControlPlane(pulumi.ComponentResource):
    """Namespace `istio-system`, CRDs and istiod, of one revision or several.

    Creates a Namespace labelled with its network (a NamespacePatch of one that is there), a Secret with the authority
    that is given, a Release of chart `base`, Charts `cni` (if asked for) and `istiod` for each revision, and a command
    that takes away what they leave behind once they are gone. Nothing replaces the namespace; another authority
    replaces the Secret and restarts istiod; a changed revision makes a new istiod and removes the old one, and one that
    is there already becomes the main one by a change of `base` alone, whose webhook asks the main one.

    Outputs: `istiod_host` (the name that VMs verify), `mesh_config` (what istiod is configured with) and
    `root_certificate`, unknown in a preview until istiod has made it. Depend on `ready` before making objects of
    Istio's kinds: its webhook must answer.
    """

    istiod_host: str
    """Host name of the main istiod."""
    mesh_config: dict[str, Any]
    """The main istiod's MeshConfig."""
    istiods: Mapping[str, Istiod]
    """Every istiod, by the plain name of its revision."""
    root_certificate: pulumi.Output[str]
    """The mesh's root of trust, PEM, the same in every namespace; one newline at its end."""
    ready: tuple[pulumi.Resource, ...]
    """What makes Istio's kinds usable."""

    def __init__(self, name: str, args: ControlPlaneArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:ControlPlane", name, None, opts)
        leftovers = residue(
            f"{name}-residue", args.access, crds=args.remove_crds, opts=pulumi.ResourceOptions(parent=self)
        )
        namespace, secret = _before_istiod(self, name, args, leftovers)
        base = kubernetes.helm.v3.Release(
            f"{name}-base",
            name=BASE_RELEASE,
            namespace=ISTIO_NAMESPACE,
            values=base_values(args.revision),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[namespace, *secret], hooks=args.base_hooks),
            **chart_reference(args.charts, "base", args.version),
        )
        cni = [] if args.cni is None else [_cni(self, name, args, args.cni, base)]
        self.istiods = {
            revision: _istiod(name, args, revision, istiod, base, self) for revision, istiod in args.revisions.items()
        }
        main = self.istiods[plain_revision(args.revision)]
        self.root_certificate = _root(args, *main.ready)
        self.istiod_host = main.host
        self.mesh_config = main.mesh_config
        self.ready = (*main.ready, *cni)
        self.register_outputs({"istiodHost": self.istiod_host, "meshConfig": self.mesh_config})


def _istiod(
    name: str, args: ControlPlaneArgs, revision: str, istiod: RevisionArgs, base: pulumi.Resource, parent: ControlPlane
) -> Istiod:
    """Make one istiod. Its resource has its revision's name, whether it is the main one or not."""
    values = values_of(args, revision, istiod)
    computed = computed_mesh_config(values)
    chart = kubernetes.helm.v4.Chart(
        suffixed(f"{name}-istiod", revision),
        name=suffixed("istiod", revision),
        namespace=ISTIO_NAMESPACE,
        values=values,
        opts=pulumi.ResourceOptions(parent=parent, depends_on=[base]),
        **chart_reference(istiod.charts, "istiod", istiod.version),
    )
    host = f"{suffixed('istiod', revision)}.{ISTIO_NAMESPACE}.svc"
    return Istiod(host=host, mesh_config=computed, version=istiod.version, ready=(base, chart))


def _before_istiod(
    parent: pulumi.Resource, name: str, args: ControlPlaneArgs, leftovers: pulumi.Resource
) -> tuple[pulumi.Resource, list[pulumi.Resource]]:
    """The namespace and, unless somebody else keeps it, the Secret of the authority."""
    opts = pulumi.ResourceOptions(parent=parent, depends_on=[leftovers])
    namespace = (
        network_label(parent, name, args.network)
        if args.adopt_namespace
        else kubernetes_object(f"{name}-namespace", _namespace({NETWORK_LABEL: args.network}), opts)
    )
    if args.ca is None or args.ca.key is None:
        return namespace, []
    secret = kubernetes_object(
        f"{name}-ca",
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": ISTIO_NAMESPACE},
            "stringData": args.ca.data,
        },
        pulumi.ResourceOptions(parent=parent, depends_on=[namespace]),
    )
    return namespace, [secret]


def _cni(
    parent: pulumi.Resource, name: str, args: ControlPlaneArgs, extra: Mapping[str, Any], base: pulumi.Resource
) -> pulumi.Resource:
    """The CNI plugin, once its namespace is there."""
    values = cni_values(extra=extra, hub=args.hub, tag=args.tag)
    opts = pulumi.ResourceOptions(parent=parent, depends_on=[base])
    return cni_chart(f"{name}-cni", values, charts=args.charts, version=args.version, opts=opts)


def network_label(parent: pulumi.Resource, name: str, network: str) -> pulumi.Resource:
    """The network's label on a namespace that stays when the stack goes, as it was before."""
    manifest = _namespace({NETWORK_LABEL: network}, annotations={ADOPTED: "true"})
    return kubernetes_object(f"{name}-network", manifest, pulumi.ResourceOptions(parent=parent), patch=True)


def _namespace(labels: Mapping[str, str], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": ISTIO_NAMESPACE, "labels": labels, **metadata},
    }


def _root(args: ControlPlaneArgs, *istiod: pulumi.Resource) -> pulumi.Output[str]:
    """The mesh's root: the one that is given, else what istiod has made."""
    if args.ca is None:
        return root_of_mesh(args.get, *istiod)
    wanted, anchor = args.ca.root, args.ca.anchor
    now = observed("the mesh has no root certificate", lambda: read_root(args.get), wait=False)
    now.apply(lambda pem: pulumi.log.warn(told) if (told := announcement(pem or "", wanted, anchor)) else None)
    return pulumi.Output.from_input(wanted)


def root_of_mesh(get: Get, *made: pulumi.Resource) -> pulumi.Output[str]:
    """The root that istiod says the mesh has, PEM, one newline at its end; unknown in a preview before it has one."""
    missing = f"configmap {ISTIO_NAMESPACE}/{ROOT} has no root-cert.pem"
    return when_there(observed(missing, lambda: read_root(get), *made), lambda pem: f"{pem.strip()}\n")


def read_root(get: Get) -> str | None:
    """What istiod says in its own namespace that the mesh's root is; None where it has not said so yet."""
    found = get(f"/api/v1/namespaces/{ISTIO_NAMESPACE}/configmaps/{ROOT}") or {}
    return (found.get("data") or {}).get("root-cert.pem") or None
