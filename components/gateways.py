"""The gateway through which machines outside the cluster's network reach istiod and the mesh's services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi
import pulumi_kubernetes as kubernetes

from cluster.objects import Get, items
from components.common import ISTIO_API, observed, when_there
from components.kubernetes_object import kubernetes_object
from components.values import ISTIO_NAMESPACE, NETWORK_LABEL, chart_reference, deep_merge, plain_revision, suffixed
from components.ways import balancer_address, balancer_ip, node_ip, read_balancer, remembered
from hosts.sidecar_files import ISTIOD_PORT

RELEASE = "istio-eastwestgateway"
SELECTOR = {"istio": "eastwestgateway"}
ISTIOD_PORT_NAME = "tls-istiod"
SERVICE_PORTS = {"status-port": 15021, "tls": 15443, ISTIOD_PORT_NAME: ISTIOD_PORT, "tls-webhook": 15017}
"""What the chart calls the ports of a gateway between networks."""


def gateway_values(*, extra: Mapping[str, Any], network: str, revision: str) -> dict[str, Any]:
    """Values of the chart `gateway` for a load balancer: the user's, with the program's over them."""
    own = {"networkGateway": network, "revision": plain_revision(revision), "service": {"type": "LoadBalancer"}}
    return deep_merge(extra, own)


def node_port_values(
    *, extra: Mapping[str, Any], network: str, revision: str, node_ports: Mapping[str, int]
) -> dict[str, Any]:
    """The same for node ports, some of them chosen; by the names of `SERVICE_PORTS`.

    The chart's own `networkGateway` takes no node ports, so what it would do stands here: see its `service.yaml` and
    `deployment.yaml`. By the annotation istiod takes the nodes' ExternalIPs for the network's gateway.
    """
    ports = [
        {
            "name": name,
            "port": port,
            "targetPort": port,
            "protocol": "TCP",
            **({"nodePort": node_ports[name]} if name in node_ports else {}),
        }
        for name, port in SERVICE_PORTS.items()
    ]
    own = {
        "revision": plain_revision(revision),
        "labels": {NETWORK_LABEL: network},
        "env": {"ISTIO_META_REQUESTED_NETWORK_VIEW": network},
        "service": {"type": "NodePort", "ports": ports},
    }
    return deep_merge(deep_merge({"service": {"annotations": {"traffic.istio.io/nodeSelector": "{}"}}}, extra), own)


def manifest(kind: str, name: str, spec: Mapping[str, Any], namespace: str = ISTIO_NAMESPACE) -> dict[str, Any]:
    """An Istio object, in istiod's namespace if it is not told otherwise."""
    return {
        "apiVersion": ISTIO_API,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": dict(spec),
    }


def gateway(name: str, mode: str, hosts: Sequence[str], **ports: int) -> dict[str, Any]:
    """A Gateway on the east-west gateway: each port takes TLS in the given mode for the given hosts."""
    servers = [
        {
            "port": {"name": port.replace("_", "-"), "number": number, "protocol": "TLS"},
            "tls": {"mode": mode},
            "hosts": list(hosts),
        }
        for port, number in ports.items()
    ]
    return manifest("Gateway", name, {"selector": SELECTOR, "servers": servers})


def istiod_names(revision: str) -> list[str]:
    """The names by which agents ask for an istiod; the default one is who is asked by any other."""
    name = f"{suffixed('istiod', revision)}.{ISTIO_NAMESPACE}.svc"
    return [name, f"{name}.cluster.local"] if plain_revision(revision) else ["*"]


def istiod_gateway(revision: str) -> dict[str, Any]:
    """The Gateway that takes istiod's ports as they come: TLS ends at istiod.

    That of a revision takes its names only: of two with the same host on a port, Istio leaves one out.
    """
    name = suffixed("istiod-gateway", revision)
    return gateway(name, "PASSTHROUGH", istiod_names(revision), tls_istiod=ISTIOD_PORT, tls_istiodwebhook=15017)


def services_gateway() -> dict[str, Any]:
    """The Gateway that takes mTLS for any service of the mesh."""
    return gateway("cross-network-gateway", "AUTO_PASSTHROUGH", ["*.local"], tls=15443)


def istiod_routes(revision: str) -> dict[str, Any]:
    """The VirtualService that leads istiod's ports to it; of a revision only what asks for it by name."""
    full = f"{suffixed('istiod', revision)}.{ISTIO_NAMESPACE}.svc.cluster.local"
    names = istiod_names(revision)
    routes = [
        {
            "match": [{"port": port, "sniHosts": names}],
            "route": [{"destination": {"host": full, "port": {"number": target}}}],
        }
        for port, target in ((ISTIOD_PORT, ISTIOD_PORT), (15017, 443))
    ]
    name = suffixed("istiod-gateway", revision)
    return manifest("VirtualService", name, {"hosts": names, "gateways": [name], "tls": routes})


@dataclass(frozen=True, kw_only=True)
class EastWestGatewayArgs:
    """What the gateway is and what it exposes."""

    get: Get
    """The cluster."""
    charts: str
    """Chart repository or folder with `gateway`."""
    version: str
    network: str
    revision: str = ""
    further: Sequence[str] = ()
    """Further revisions to whose istiods it leads."""
    service: Literal["LoadBalancer", "NodePort"] = "LoadBalancer"
    address: str | None = None
    """IP at which it is reached; None: what the cluster says."""
    node_ports: Mapping[str, int] = field(default_factory=dict)
    """Ports of the nodes, by the names of `SERVICE_PORTS`; Kubernetes chooses the others."""
    expose_istiod: bool = True
    """Whether it takes istiod's ports."""
    istiod_address: str | None = None
    """IP at which VMs reach istiod; None: the gateway's."""
    expose_services: bool = True
    """Whether it also takes mTLS for the mesh's services, on 15443."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """More values for the chart, under those that the other fields make."""
    after: Sequence[pulumi.Resource] = ()
    """What must be there first: the control plane, which injects the gateway's proxy."""

    @property
    def chart_values(self) -> dict[str, Any]:
        """Values of the chart."""
        own: dict[str, Any] = {"extra": self.values, "network": self.network, "revision": self.revision}
        if self.service == "NodePort":
            return node_port_values(**own, node_ports=self.node_ports)
        return gateway_values(**own)


class EastWestGateway(pulumi.ComponentResource):
    """An east-west gateway behind a load balancer or on ports of the nodes.

    Creates a Chart `gateway`, a Gateway and a VirtualService for each istiod, and a Gateway for services. Nothing
    forces a replacement.

    Outputs: `address`, an IP or host name, `istiod_address`, always an IP, and `istiod_port`; unknown in a preview
    until the cluster has given them. Depend on `ready` before using them.
    """

    address: pulumi.Output[str]
    """Where it is reached."""
    istiod_address: pulumi.Output[str]
    """Where VMs reach istiod through it."""
    istiod_port: pulumi.Output[int]
    """The port there."""
    ready: tuple[pulumi.Resource, ...]
    """What makes it pass traffic to istiod."""

    def __init__(self, name: str, args: EastWestGatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:EastWestGateway", name, None, opts)
        child = pulumi.ResourceOptions(parent=self, depends_on=list(args.after))
        chart = kubernetes.helm.v4.Chart(
            f"{name}-chart",
            name=RELEASE,
            namespace=ISTIO_NAMESPACE,
            values=args.chart_values,
            opts=child,
            **chart_reference(args.charts, "gateway", args.version),
        )
        self.address, ip, mark = _reached(args, chart)
        self.istiod_address = pulumi.Output.from_input(args.istiod_address) if args.istiod_address else ip
        self.istiod_port = _istiod_port(args, chart)
        istiod: tuple[pulumi.Resource, ...] = ()
        for revision in (args.revision, *args.further) if args.expose_istiod else ():
            gateway = istiod_gateway(revision)
            bears = not args.expose_services and revision == args.revision
            # Named by its revision: one that becomes the main one stays as it is.
            role = suffixed(f"{name}-istiod", revision)
            istiod += (
                kubernetes_object(role, _marked(gateway, mark) if bears else gateway, child),
                kubernetes_object(f"{role}-routes", istiod_routes(revision), child),
            )
        if args.expose_services:
            kubernetes_object(f"{name}-services", _marked(services_gateway(), mark), child)
        self.ready = (chart, *istiod)
        self.register_outputs({"address": self.address})


def mark_bearer(args: EastWestGatewayArgs) -> str:
    """Name of the Gateway that bears the address in use: the services', since VMs do not wait for that one."""
    gateway = services_gateway() if args.expose_services else istiod_gateway(args.revision)
    return str(gateway["metadata"]["name"])


def _marked(manifest: Mapping[str, Any], mark: pulumi.Output[dict[str, Any]]) -> dict[str, Any]:
    return {**manifest, "metadata": mark.apply(lambda more: {**manifest["metadata"], **more})}


def _reached(
    args: EastWestGatewayArgs, chart: pulumi.Resource
) -> tuple[pulumi.Output[str], pulumi.Output[str], pulumi.Output[dict[str, Any]]]:
    """Where the gateway is reached, the IP of that, and the metadata by which that IP stays the one in use."""
    plain: pulumi.Output[dict[str, Any]] = pulumi.Output.from_input({})
    if args.address:
        given = pulumi.Output.from_input(args.address)
        return given, given, plain
    if args.service == "NodePort":
        nodes = observed("the cluster has no nodes", lambda: items(args.get, "/api/v1/nodes") or None, wait=False)
        node = when_there(nodes, node_ip)
        return node, node, plain
    found = observed(
        f"service {ISTIO_NAMESPACE}/{RELEASE} has no load balancer",
        lambda: read_balancer(args.get, RELEASE, mark_bearer(args)),
        chart,
    )
    address = when_there(found, balancer_address)
    if args.istiod_address or not args.expose_istiod:
        return address, address, plain
    return address, when_there(found, balancer_ip), found.apply(remembered)


def _istiod_port(args: EastWestGatewayArgs, chart: pulumi.Resource) -> pulumi.Output[int]:
    """The port at which the gateway takes agents."""
    if args.service == "LoadBalancer":
        return pulumi.Output.from_input(ISTIOD_PORT)
    if ISTIOD_PORT_NAME in args.node_ports:
        return pulumi.Output.from_input(args.node_ports[ISTIOD_PORT_NAME])

    def look() -> int | None:
        service = args.get(f"/api/v1/namespaces/{ISTIO_NAMESPACE}/services/{RELEASE}") or {}
        ports = service.get("spec", {}).get("ports") or ()
        return next((port.get("nodePort") for port in ports if port.get("name") == ISTIOD_PORT_NAME), None)

    missing = f"service {ISTIO_NAMESPACE}/{RELEASE} has no port of the nodes for {ISTIOD_PORT_NAME}"
    return when_there(observed(missing, look, chart), int)
