"""What the control plane, its gateway and the proof of both get of a stack's settings."""

from collections.abc import Mapping
from typing import Any

import pulumi

import settings
from cluster.client import Client
from cluster.objects import Get
from components.ca import Ca
from components.cni import DAEMON_SET
from components.confirmation import ConfirmationArgs
from components.control_plane import ControlPlaneArgs, Mesh, RevisionArgs
from components.existing import GATEWAY, ExistingControlPlaneArgs, FoundIstio
from components.gateways import SERVICE_PORTS, EastWestGateway, EastWestGatewayArgs
from components.kubectl import ClusterAccess
from components.presets import PRESETS, istiod_preset, layered
from components.revisions import RevisionTagsArgs, Target
from components.values import ISTIO_NAMESPACE, suffixed
from components.ways import Way, service_ip
from hosts.sidecar_files import ISTIOD_PORT
from registration.mesh_state import Workload as MeshWorkload
from settings import Settings

NODE_PORTS = {"istiod": "tls-istiod", "webhook": "tls-webhook", "services": "tls", "status": "status-port"}
"""What the stack file calls the gateway's ports -> what its chart calls them."""


def cluster_access(stack: Settings) -> ClusterAccess:
    """How kubectl reaches the cluster."""
    return ClusterAccess(kubeconfig=stack.cluster.kubeconfig, context=stack.cluster.context)


def control_plane_args(
    stack: Settings, get: Get, ca: Ca | None = None, *, adopt_namespace: bool = False
) -> ControlPlaneArgs:
    """The control plane that the stack asks for."""
    istio, cluster = stack.istio, stack.cluster
    preset = istiod_preset(istio.preset, cluster=cluster.name, network=cluster.network)
    return ControlPlaneArgs(
        access=cluster_access(stack),
        get=get,
        charts=istio.charts,
        version=istio.version,
        hub=istio.hub,
        tag=istio.tag or istio.version,
        mesh_id=istio.mesh_id,
        trust_domain=istio.trust_domain,
        cluster=cluster.name,
        network=cluster.network,
        revision=istio.revision,
        values=layered(preset, *stack.values_files, istio.values),
        remove_crds=istio.remove_crds,
        further={name: _further(stack, revision, preset) for name, revision in istio.revisions.items()},
        ca=ca,
        cni=istio.cni.values if istio.cni.enabled else None,
        adopt_namespace=adopt_namespace,
    )


def _further(stack: Settings, revision: settings.ControlPlaneRevision, preset: Mapping[str, Any]) -> RevisionArgs:
    """A control plane beside the main one, which has what it does not say otherwise."""
    istio = stack.istio
    return RevisionArgs(
        charts=revision.charts or istio.charts,
        version=revision.version or istio.version,
        hub=revision.hub or istio.hub,
        tag=revision.tag or revision.version or istio.tag or istio.version,
        values=layered(preset, *stack.values_files, istio.values, revision.values),
    )


def tags_args(stack: Settings, get: Get, control_plane: Mesh) -> RevisionTagsArgs | None:
    """The revision tags that the stack asks for, if any."""
    tags = settings.tags_of(stack.istio)
    if not tags:
        return None
    main = control_plane_args(stack, get)
    return RevisionTagsArgs(
        tags={
            tag: Target(
                revision=revision, values=main.revisions[revision].values, after=control_plane.istiods[revision].ready
            )
            for tag, revision in tags.items()
        }
    )


def existing_args(stack: Settings, get: Get, found: FoundIstio) -> ExistingControlPlaneArgs:
    """The Istio that somebody else has installed."""
    return ExistingControlPlaneArgs(
        access=cluster_access(stack), get=get, found=found, network=stack.cluster.network, revision=stack.istio.revision
    )


def gateway_args(stack: Settings, get: Get, control_plane: Mesh) -> EastWestGatewayArgs | None:
    """The east-west gateway that the stack asks for, if any."""
    asked = stack.east_west_gateway
    if asked.service == "none":
        return None
    return EastWestGatewayArgs(
        get=get,
        charts=stack.istio.charts,
        version=stack.istio.version,
        network=stack.cluster.network,
        revision=stack.istio.revision,
        further=list(stack.istio.revisions),
        service=asked.service,
        address=asked.address,
        node_ports={NODE_PORTS[key]: port for key, port in asked.node_ports if port},
        expose_istiod=asked.expose_istiod,
        istiod_address=stack.hosts.istiod_address,
        expose_services=asked.expose_services,
        values=layered(PRESETS[stack.istio.preset].gateway, asked.values),
        after=control_plane.ready,
    )


def ways_to_istiod(stack: Settings, get: Get, control_plane: Mesh, gateway: EastWestGateway | None) -> dict[str, Way]:
    """How VMs of each revision reach their istiod, by the revision's plain name, the main one first."""
    return {revision: _way(stack, get, control_plane, gateway, revision) for revision in control_plane.istiods}


def _way(stack: Settings, get: Get, control_plane: Mesh, gateway: EastWestGateway | None, revision: str) -> Way:
    """How VMs reach an istiod: through the gateway, or at its Service."""
    ready = control_plane.istiods[revision].ready
    given = stack.hosts.istiod_address
    if gateway is not None and stack.east_west_gateway.leads_to_istiod:
        return Way(
            address=gateway.istiod_address,
            port=gateway.istiod_port,
            clock_port=None if given else _webhook_port(stack.east_west_gateway),
            ready=(*gateway.ready, *ready),
        )
    return Way(
        address=pulumi.Output.from_input(given) if given else service_ip(get, revision, *ready),
        port=pulumi.Output.from_input(ISTIOD_PORT),
        clock_port=None if given else 443,
        ready=ready,
    )


def _webhook_port(gateway: settings.EastWestGateway) -> int | None:
    """The port at which the gateway leads to istiod's webhooks, if that is known without a look."""
    return gateway.node_ports.webhook if gateway.service == "NodePort" else SERVICE_PORTS["tls-webhook"]


def confirmation_args(
    stack: Settings, client: Client, gateway: EastWestGateway | None, after: pulumi.Output[Any]
) -> ConfirmationArgs:
    """What the control plane and its gateways consist of."""
    istiod = suffixed("istiod", stack.istio.revision)
    remote = stack.istio.preset == "remote"
    asked = [
        *([] if remote else [("deployments", istiod)]),
        *([("daemonsets", DAEMON_SET)] if stack.istio.cni.enabled else []),
        *([("deployments", GATEWAY)] if gateway else []),
    ]
    return ConfirmationArgs(
        client=client,
        revision=stack.istio.revision,
        workloads=[MeshWorkload(kind=kind, namespace=ISTIO_NAMESPACE, name=name) for kind, name in asked],
        vm_namespaces=sorted({workload.namespace for workload in stack.workloads.values() if workload.meshed_vms}),
        has_istiod=not remote,
        after=after,
    )
