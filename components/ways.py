"""Where VMs reach the gateway and istiod: read from the cluster, and brought to one IP address that stays the same.

A VM's hosts file takes no names, and a load balancer or a cluster may offer several addresses: which one it is must not
depend on the order in which they come.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_command as command

from components.common import certain, made_first, when_there
from components.kubectl import ClusterAccess, kubectl, read_when_there
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


def read_balancer(access: ClusterAccess, service: str, gateway: str, *, wait: bool) -> str:
    """A script that prints what a load balancer is reached at, as JSON.

    Where that is only names, the second line is the address that was taken from them before, if any.
    """
    ingress = read_when_there(access, "service", service, ISTIO_NAMESPACE, "{.status.loadBalancer.ingress}", wait=wait)
    where = ("gateways.networking.istio.io", gateway, f"--namespace={ISTIO_NAMESPACE}", "--ignore-not-found")
    in_use = kubectl(access, "get", *where, f"-o=jsonpath={{.metadata.annotations.{IN_USE}}}")
    return "\n".join(
        [
            f"ingress=$({ingress}",
            ") || exit 1",
            "printf '%s\\n' \"$ingress\"",
            f"case $ingress in *'\"ip\"'*) ;; *'\"hostname\"'*) {in_use} ;; esac",
        ]
    )


def service_ip(access: ClusterAccess, revision: str, *ready: pulumi.Resource) -> pulumi.Output[str]:
    """The IP of istiod's Service in the cluster, for VMs that have a route to it."""
    service = suffixed("istiod", revision)
    wait = not pulumi.runtime.is_dry_run()
    script = read_when_there(access, "service", service, ISTIO_NAMESPACE, "{.spec.clusterIP}", wait=wait)
    return when_there(printed(script, *ready), str.strip)


def read_nodes(access: ClusterAccess) -> str:
    """A script that prints a line for each node of the cluster: its name and, as JSON, its addresses."""
    fields = '{range .items[*]}{.metadata.name}{" "}{.status.addresses}{"\\n"}{end}'
    return kubectl(access, "get", "nodes", f"-o=jsonpath={fields}")


def printed(script: str, *depends_on: pulumi.Resource, parent: pulumi.Resource | None = None) -> pulumi.Output[str]:
    """What a script prints; nothing where what it waits for has failed."""
    output = command.local.run_output(
        command=script,
        logging=command.local.Logging.NONE,
        opts=pulumi.InvokeOutputOptions(parent=parent, depends_on=made_first(*depends_on)),
    ).stdout
    return certain(output, "")


def points_of(ingress: str) -> tuple[list[str], list[str]]:
    """The IPs by number and the names of a load balancer, from its Service's `status.loadBalancer.ingress`."""
    points: list[Mapping[str, Any]] = json.loads(ingress)
    ips = in_order(str(point["ip"]) for point in points if point.get("ip"))
    return ips, sorted(str(point["hostname"]) for point in points if point.get("hostname"))


def balancer_points(text: str) -> tuple[list[str], list[str], str]:
    """The IPs and the names of what `read_balancer` has printed, and the address in use."""
    ingress, _, in_use = text.partition("\n")
    ips, names = points_of(ingress)
    if not ips and not names:
        raise pulumi.RunError(
            f"eastWestGateway: its load balancer has neither an IP nor a host name: {ingress}, give "
            "eastWestGateway.address or hosts.istiodAddress"
        )
    return ips, names, in_use.strip()


def balancer_address(text: str) -> str:
    """What the load balancer is reached at: its first IP, else its first name."""
    ips, names, _ = balancer_points(text)
    return [*ips, *names][0]


async def balancer_ip(text: str) -> str:
    """The IP of the load balancer; of one that has only a name the one in use, else the lowest that the name has."""
    ips, names, in_use = balancer_points(text)
    if ips:
        return ips[0]
    try:
        found = in_order(await asyncio.to_thread(resolve, names[0]))
    except OSError as error:
        raise pulumi.RunError(
            f"eastWestGateway: its load balancer has only a name, {names[0]}, which has no IPv4 address where Pulumi "
            f"runs ({error.strerror or error}), and a VM's hosts file needs one: give hosts.istiodAddress"
        ) from None
    return in_use if in_use in found else found[0]


def resolve(name: str) -> list[str]:
    """The IPv4 addresses of a name, in any order; raises `OSError` where there are none."""
    return [str(found[4][0]) for found in socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)]


async def remembered(text: str) -> dict[str, Any]:
    """What a Gateway says of the address in use, where the load balancer has only a name."""
    if not text.strip() or balancer_points(text)[0]:
        return {}
    return {"annotations": {IN_USE: await balancer_ip(text)}}


def node_ip(text: str) -> str:
    """The address of the node that VMs can be meant to use; several, or none, are refused with what there is."""
    nodes: dict[str, dict[str, list[str]]] = {}
    for line in text.splitlines():
        name, _, addresses = line.partition(" ")
        kinds: dict[str, list[str]] = nodes.setdefault(name, {})
        for address in json.loads(addresses or "[]"):
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
