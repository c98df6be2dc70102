"""Istio's control plane from its Helm charts.

`base` is a Release because CRDs are dear as single resources; istiod is a Chart because its per-resource diff is worth
reading.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_command as command
import pulumi_kubernetes as kubernetes

from components.common import made_first, when_there
from components.kubectl import ClusterAccess, read_when_there
from components.residue import residue
from components.values import (
    BASE_RELEASE,
    ISTIO_NAMESPACE,
    NETWORK_LABEL,
    base_values,
    chart_reference,
    istiod_values,
    mesh_config,
    plain_revision,
    suffixed,
)

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
    return istiod_values(
        extra=istiod.values,
        hub=istiod.hub,
        tag=istiod.tag,
        mesh_id=args.mesh_id,
        trust_domain=args.trust_domain,
        cluster=args.cluster,
        network=args.network,
        revision=revision,
    )


def computed_mesh_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """The MeshConfig of an istiod; values whose effect on VMs is not known end the run."""
    try:
        return mesh_config(values)
    except ValueError as error:
        raise pulumi.RunError(str(error)) from None


class ControlPlane(pulumi.ComponentResource):
    """Namespace `istio-system`, CRDs and istiod, of one revision or several.

    Creates a Namespace labelled with its network, a Release of chart `base`, a Chart `istiod` for each revision, and a
    command that takes away what they leave behind once they are gone. Nothing forces a replacement of the namespace; a
    changed revision makes a new istiod and removes the old one, and one that is there already becomes the main one by a
    change of `base` alone, whose webhook asks the main one.

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
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": ISTIO_NAMESPACE, "labels": {NETWORK_LABEL: args.network}},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[leftovers]),
        )
        base = kubernetes.helm.v3.Release(
            f"{name}-base",
            name=BASE_RELEASE,
            namespace=ISTIO_NAMESPACE,
            values=base_values(args.revision),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[namespace]),
            **chart_reference(args.charts, "base", args.version),
        )
        self.istiods = {
            revision: _istiod(name, args, revision, istiod, base, self) for revision, istiod in args.revisions.items()
        }
        main = self.istiods[plain_revision(args.revision)]
        pem = command.local.run_output(
            command=read_when_there(
                args.access,
                "configmap",
                "istio-ca-root-cert",
                ISTIO_NAMESPACE,
                r"{.data.root-cert\.pem}",
                wait=not pulumi.runtime.is_dry_run(),
            ),
            logging=command.local.Logging.NONE,
            opts=pulumi.InvokeOutputOptions(parent=self, depends_on=made_first(*main.ready)),
        ).stdout
        self.root_certificate = when_there(pem, lambda text: f"{text.strip()}\n")
        self.istiod_host = main.host
        self.mesh_config = main.mesh_config
        self.ready = main.ready
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
