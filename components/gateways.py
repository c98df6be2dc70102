"""The gateway through which machines outside the cluster's network reach istiod and the mesh's services."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_command as command
import pulumi_kubernetes as kubernetes

from components.common import ISTIO_API, istio_object, made_first, when_there
from components.kubectl import ClusterAccess, read_when_there
from components.values import ISTIO_NAMESPACE, chart_reference, deep_merge, plain_revision, suffixed

RELEASE = "istio-eastwestgateway"
SELECTOR = {"istio": "eastwestgateway"}
ISTIOD_PORT = 15012


def gateway_values(*, extra: Mapping[str, Any], network: str, revision: str) -> dict[str, Any]:
    """Values of the chart `gateway`: the user's, with the program's over them."""
    own = {"networkGateway": network, "revision": plain_revision(revision), "service": {"type": "LoadBalancer"}}
    return deep_merge(extra, own)


def manifest(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """An Istio object in istiod's namespace."""
    return {
        "apiVersion": ISTIO_API,
        "kind": kind,
        "metadata": {"name": name, "namespace": ISTIO_NAMESPACE},
        "spec": dict(spec),
    }


def gateway(name: str, mode: str, hosts: str, **ports: int) -> dict[str, Any]:
    """A Gateway on the east-west gateway: each port takes TLS in the given mode for the given hosts."""
    servers = [
        {
            "port": {"name": port.replace("_", "-"), "number": number, "protocol": "TLS"},
            "tls": {"mode": mode},
            "hosts": [hosts],
        }
        for port, number in ports.items()
    ]
    return manifest("Gateway", name, {"selector": SELECTOR, "servers": servers})


def istiod_gateway(revision: str) -> dict[str, Any]:
    """The Gateway that takes istiod's ports as they come: TLS ends at istiod."""
    name = suffixed("istiod-gateway", revision)
    return gateway(name, "PASSTHROUGH", "*", tls_istiod=ISTIOD_PORT, tls_istiodwebhook=15017)


def services_gateway() -> dict[str, Any]:
    """The Gateway that takes mTLS for any service of the mesh."""
    return gateway("cross-network-gateway", "AUTO_PASSTHROUGH", "*.local", tls=15443)


def istiod_routes(revision: str) -> dict[str, Any]:
    """The VirtualService that leads istiod's ports to it; of a revision only what asks for it by name."""
    service = suffixed("istiod", revision)
    full = f"{service}.{ISTIO_NAMESPACE}.svc.cluster.local"
    names = [f"{service}.{ISTIO_NAMESPACE}.svc", full] if plain_revision(revision) else ["*"]
    routes = [
        {
            "match": [{"port": port, "sniHosts": names}],
            "route": [{"destination": {"host": full, "port": {"number": target}}}],
        }
        for port, target in ((ISTIOD_PORT, 15012), (15017, 443))
    ]
    name = suffixed("istiod-gateway", revision)
    return manifest("VirtualService", name, {"hosts": names, "gateways": [name], "tls": routes})


def first_address(ingress: str) -> str:
    """The first IP, else the first host name, of a Service's `status.loadBalancer.ingress` as JSON."""
    points = json.loads(ingress)
    found = [p["ip"] for p in points if p.get("ip")] + [p["hostname"] for p in points if p.get("hostname")]
    if not found:
        raise ValueError(f"the load balancer of {RELEASE} has neither an IP nor a host name: {ingress}")
    return str(found[0])


def istiod_ip(address: str) -> str:
    """The address as VMs need it, in their hosts file: an IP. A host name is refused with the reason."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        raise pulumi.RunError(
            f"eastWestGateway: its load balancer has only a host name ({address}), and a VM's hosts file needs an IP; "
            "give the load balancer a fixed IP"
        ) from None


@dataclass(frozen=True, kw_only=True)
class EastWestGatewayArgs:
    """What the gateway is and what it exposes."""

    access: ClusterAccess
    charts: str
    """Chart repository or folder with `gateway`."""
    version: str
    network: str
    revision: str = ""
    expose_services: bool = True
    """Whether it also takes mTLS for the mesh's services, on 15443."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """More values for the chart, under those that the other fields make."""
    after: Sequence[pulumi.Resource] = ()
    """What must be there first: the control plane, which injects the gateway's proxy."""


class EastWestGateway(pulumi.ComponentResource):
    """An east-west gateway with a load balancer.

    Creates a Chart `gateway`, a Gateway and a VirtualService for istiod, and a Gateway for services. Nothing forces a
    replacement.

    Outputs: `address`, an IP or host name; unknown in a preview until the load balancer exists. Depend on `ready`
    before using it.
    """

    address: pulumi.Output[str]
    """Where VMs reach it."""
    ready: tuple[pulumi.Resource, ...]
    """What makes it pass traffic to istiod."""

    def __init__(self, name: str, args: EastWestGatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:EastWestGateway", name, None, opts)
        child = pulumi.ResourceOptions(parent=self, depends_on=list(args.after))
        chart = kubernetes.helm.v4.Chart(
            f"{name}-chart",
            name=RELEASE,
            namespace=ISTIO_NAMESPACE,
            values=gateway_values(extra=args.values, network=args.network, revision=args.revision),
            opts=child,
            **chart_reference(args.charts, "gateway", args.version),
        )
        istiod = istio_object(f"{name}-istiod", istiod_gateway(args.revision), child)
        routes = istio_object(f"{name}-istiod-routes", istiod_routes(args.revision), child)
        if args.expose_services:
            istio_object(f"{name}-services", services_gateway(), child)
        ingress = command.local.run_output(
            command=read_when_there(
                args.access,
                "service",
                RELEASE,
                ISTIO_NAMESPACE,
                "{.status.loadBalancer.ingress}",
                wait=not pulumi.runtime.is_dry_run(),
            ),
            logging=command.local.Logging.NONE,
            opts=pulumi.InvokeOutputOptions(parent=self, depends_on=made_first(chart)),
        ).stdout
        self.address = when_there(ingress, first_address)
        self.ready = (chart, istiod, routes)
        self.register_outputs({"address": self.address})
