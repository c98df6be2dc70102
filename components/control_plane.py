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
    suffixed,
)

PEM_END = "-----END CERTIFICATE-----"


def certificate_digest(pem: str) -> str:
    """SHA-256 of the first certificate in a PEM text, as `openssl x509 -fingerprint -sha256` but in lower case."""
    first = pem[: pem.index(PEM_END) + len(PEM_END)]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(first)).hexdigest()


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


class ControlPlane(pulumi.ComponentResource):
    """Namespace `istio-system`, CRDs and istiod.

    Creates a Namespace labelled with its network, a Release of chart `base`, a Chart `istiod`, and a command that takes
    away what they leave behind once they are gone. Nothing forces a replacement of the namespace; a changed revision
    makes a new istiod and removes the old one.

    Outputs: `istiod_host` (the name that VMs verify), `mesh_config` (what istiod is configured with) and
    `root_certificate`, unknown in a preview until istiod has made it. Depend on `ready` before making objects of
    Istio's kinds: its webhook must answer.
    """

    istiod_host: str
    """Host name of istiod, `istiod[-<revision>].istio-system.svc`."""
    mesh_config: dict[str, Any]
    """The MeshConfig, computed from the values."""
    root_certificate: pulumi.Output[str]
    """The mesh's root of trust, PEM, the same in every namespace; one newline at its end."""
    ready: tuple[pulumi.Resource, ...]
    """What makes Istio's kinds usable."""

    def __init__(self, name: str, args: ControlPlaneArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:ControlPlane", name, None, opts)
        values = istiod_values(
            extra=args.values,
            hub=args.hub,
            tag=args.tag,
            mesh_id=args.mesh_id,
            trust_domain=args.trust_domain,
            cluster=args.cluster,
            network=args.network,
            revision=args.revision,
        )
        try:
            computed = mesh_config(values)
        except ValueError as error:
            raise pulumi.RunError(str(error)) from None
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
        istiod = kubernetes.helm.v4.Chart(
            f"{name}-istiod",
            name=suffixed("istiod", args.revision),
            namespace=ISTIO_NAMESPACE,
            values=values,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[base]),
            **chart_reference(args.charts, "istiod", args.version),
        )
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
            opts=pulumi.InvokeOutputOptions(parent=self, depends_on=made_first(istiod)),
        ).stdout
        self.root_certificate = when_there(pem, lambda text: f"{text.strip()}\n")
        self.istiod_host = f"{suffixed('istiod', args.revision)}.{ISTIO_NAMESPACE}.svc"
        self.mesh_config = computed
        self.ready = (base, istiod)
        self.register_outputs({"istiodHost": self.istiod_host, "meshConfig": self.mesh_config})
