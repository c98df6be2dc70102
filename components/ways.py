"""Where VMs reach the gateway and istiod: read from the cluster, and brought to one IP address that stays the same.

A VM's hosts file takes no names, and a load balancer or a cluster may offer several addresses: which one it is must not
depend on the order in which they come.
"""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from cluster.objects import Get
from components.common import ISTIO_API, observed, when_there
from components.hooks import in_thread
from components.values import ISTIO_NAMESPACE, suffixed


@dataclass(frozen=True, kw_only=True)
class Way:
    """How VMs reach istiod."""

    address: pulumi.Output[str]
    """IP; unknown in a preview until the cluster has given it."""
    port: pulumi.Output[int]
    clock_port: int | None
    """Port at `address` that leads to istiod's webhooks; None: not known."""
    ready: tuple[pulumi.Resource, ...]
    """What makes it lead there."""


IN_USE = "istio-vm-mesh/istiod-address"
"""Annotation of a Gateway: the address at which VMs reach istiod, where the load balancer has only a name."""


Points = Sequence[Mapping[str, Any]]
"""What a load balancer is reached at: `status.loadBalancer.ingress` of its Service."""


@dataclass(frozen=True, kw_only=True)
class Balancer:
    """The load balancer before a gateway."""

    points: Points
    in_use: str = ""
    """The address that was taken from its names before, where it has only names."""


def read_points(get: Get, namespace: str, service: str) -> Points | None:
    """What the load balancer of a Service is reached at; None where it has none yet."""
    found = get(f"/api/v1/namespaces/{namespace}/services/{service}") or {}
    return found.get("status", {}).get("loadBalancer", {}).get("ingress") or None


def read_balancer(get: Get, service: str, gateway: str) -> Balancer | None:
    """The load balancer of a Service, and what a Gateway remembers of it."""
    points = read_points(get, ISTIO_NAMESPACE, service)
    if points is None or any(point.get("ip") for point in points):
        return None if points is None else Balancer(points=points)
    path = f"/apis/{ISTIO_API}/namespaces/{ISTIO_NAMESPACE}/gateways/{gateway}"
    metadata = (get(path) or {}).get("metadata", {})
    return Balancer(points=points, in_use=(metadata.get("annotations") or {}).get(IN_USE, ""))


def service_ip(get: Get, revision: str, *ready: pulumi.Resource) -> pulumi.Output[str]:
    """The IP of istiod's Service in the cluster, for VMs that have a route to it."""
    name = suffixed("istiod", revision)
    path = f"/api/v1/namespaces/{ISTIO_NAMESPACE}/services/{name}"

    def look() -> str | None:
        return (get(path) or {}).get("spec", {}).get("clusterIP") or None

    return when_there(observed(f"service {ISTIO_NAMESPACE}/{name} has no IP", look, *ready), str)


def points_of(points: Points) -> tuple[list[str], list[str]]:
    """The IPs by number and the names of a load balancer."""
    ips = in_order(str(point["ip"]) for point in points if point.get("ip"))
    return ips, sorted(str(point["hostname"]) for point in points if point.get("hostname"))


def balancer_points(found: Balancer) -> tuple[list[str], list[str]]:
    """The IPs and the names of a load balancer, of which it has one at least."""
    ips, names = points_of(found.points)
    if not ips and not names:
        raise pulumi.RunError(
            f"eastWestGateway: its load balancer has neither an IP nor a host name: {json.dumps(found.points)}, give "
            "eastWestGateway.address or hosts.istiodAddress"
        )
    return ips, names


def balancer_address(found: Balancer) -> str:
    """What the load balancer is reached at: its first IP, else its first name."""
    ips, names = balancer_points(found)
    return [*ips, *names][0]


async def balancer_ip(found: Balancer) -> str:
    """The IP of the load balancer; of one that has only a name the one in use, else the lowest that the name has."""
    ips, names = balancer_points(found)
    if ips:
        return ips[0]
    try:
        known = in_order(await in_thread(resolve, names[0]))
    except OSError as error:
        raise pulumi.RunError(
            f"eastWestGateway: its load balancer has only a name, {names[0]}, which has no IPv4 address where Pulumi "
            f"runs ({error.strerror or error}), and a VM's hosts file needs one: give hosts.istiodAddress"
        ) from None
    return found.in_use if found.in_use in known else known[0]


def resolve(name: str) -> list[str]:
    """The IPv4 addresses of a name, in any order; raises `OSError` where there are none."""
    return [str(found[4][0]) for found in socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)]


async def remembered(found: Balancer | None) -> dict[str, Any]:
    """What a Gateway says of the address in use, where the load balancer has only a name."""
    if found is None or balancer_points(found)[0]:
        return {}
    return {"annotations": {IN_USE: await balancer_ip(found)}}


def node_ip(every_node: Sequence[Mapping[str, Any]]) -> str:
    """The address of the node that VMs can be meant to use; several, or none, are refused with what there is."""
    nodes: dict[str, dict[str, list[str]]] = {}
    for node in every_node:
        kinds: dict[str, list[str]] = nodes.setdefault(node["metadata"]["name"], {})
        for address in node.get("status", {}).get("addresses") or ():
            kinds.setdefault(address["type"], []).append(address["address"])
    for kind in ("ExternalIP", "InternalIP"):
        found = {
            node: [ip for ip in kinds.get(kind, ()) if ipaddress.ip_address(ip).version == 4]
            for node, kinds in nodes.items()
        }
        every = in_order({ip for ips in found.values() for ip in ips})
        if len(every) == 1 and (kind == "ExternalIP" or len(nodes) == 1):
            return every[0]
        if every:
            shown = ", ".join(f"{node} {' '.join(ips)}" for node, ips in sorted(found.items()) if ips)
            raise pulumi.RunError(
                f"eastWestGateway.address: missing, with a choice of {len(every)} addresses ({kind} of {shown}), "
                "give the one of the node that they are to use, or of a load balancer before the nodes"
            )
    raise pulumi.RunError("eastWestGateway.address: missing, and no node of the cluster has an IPv4 address, give it")


def in_order(addresses: Iterable[str]) -> list[str]:
    """Addresses by number, each once."""
    return sorted(set(addresses), key=lambda ip: (ipaddress.ip_address(ip).version, int(ipaddress.ip_address(ip))))
