"""Where VMs reach the gateway and istiod: one address out of what the cluster says, or the reason why there is none."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

import pulumi
import pytest
from fake_cluster import FakeCluster

from components import ways
from components.ways import Balancer, Points


def done(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns; Pulumi's own loop stays as it is, unlike with `asyncio.run`."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


@pytest.mark.parametrize(
    ("ingress", "address"),
    [
        ([{"ip": "10.77.0.200"}], "10.77.0.200"),
        ([{"hostname": "lb.example"}, {"ip": "10.77.0.200"}, {"ip": "10.77.0.30"}], "10.77.0.30"),
        ([{"hostname": "lb.example"}, {"hostname": "a.example"}], "a.example"),
    ],
)
def test_what_a_load_balancer_is_reached_at(ingress: Points, address: str) -> None:
    assert ways.balancer_address(Balancer(points=ingress)) == address
    if "example" not in address:
        assert done(ways.balancer_ip(Balancer(points=ingress, in_use="192.0.2.1"))) == address
        assert done(ways.remembered(Balancer(points=ingress))) == {}


@pytest.mark.parametrize("found", [["192.0.2.10", "192.0.2.9"], ["192.0.2.9", "192.0.2.10", "192.0.2.9"]])
def test_the_order_of_a_names_addresses_does_not_matter(monkeypatch: pytest.MonkeyPatch, found: list[str]) -> None:
    monkeypatch.setattr(ways, "resolve", lambda name: found)
    name = Balancer(points=[{"hostname": "lb.example"}])
    assert done(ways.balancer_ip(name)) == "192.0.2.9"
    assert done(ways.balancer_ip(replace(name, in_use="192.0.2.10"))) == "192.0.2.10", "the one in use stays"
    assert done(ways.balancer_ip(replace(name, in_use="192.0.2.77"))) == "192.0.2.9", "unless the name has lost it"
    assert done(ways.remembered(replace(name, in_use="192.0.2.10"))) == {"annotations": {ways.IN_USE: "192.0.2.10"}}
    assert done(ways.remembered(None)) == {}


def test_no_address_is_refused_with_the_reason_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pulumi.RunError, match=r"has neither an IP nor a host name: \[{}\], give .*hosts.istiodAddress"):
        ways.balancer_address(Balancer(points=[{}]))

    def unknown(name: str) -> list[str]:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(ways, "resolve", unknown)
    with pytest.raises(pulumi.RunError) as raised:
        done(ways.balancer_ip(Balancer(points=[{"hostname": "lb.example"}])))
    assert str(raised.value) == (
        "eastWestGateway: its load balancer has only a name, lb.example, which has no IPv4 address where Pulumi runs "
        "(Name or service not known), and a VM's hosts file needs one: give hosts.istiodAddress"
    )


def test_a_name_is_resolved_where_pulumi_runs() -> None:
    assert set(ways.resolve("localhost")) == {"127.0.0.1"}


def node(name: str, **addresses: str) -> list[dict[str, Any]]:
    listed = [{"type": kind, "address": address} for kind, address in addresses.items()]
    return [{"metadata": {"name": name}, "status": {"addresses": listed}}]


@pytest.mark.parametrize(
    ("nodes", "address"),
    [
        (node("a", InternalIP="10.0.0.1", Hostname="a"), "10.0.0.1"),
        (node("a", InternalIP="10.0.0.1", ExternalIP="192.0.2.1"), "192.0.2.1"),
        (node("a", InternalIP="10.0.0.1") + node("b", InternalIP="10.0.0.2", ExternalIP="192.0.2.2"), "192.0.2.2"),
    ],
)
def test_the_node_that_is_meant(nodes: list[dict[str, Any]], address: str) -> None:
    assert ways.node_ip(nodes) == address


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        (
            node("b", InternalIP="10.0.0.10") + node("a", InternalIP="10.0.0.9"),
            "eastWestGateway.address: missing, with a choice of 2 addresses (InternalIP of a 10.0.0.9, b 10.0.0.10), "
            "give the one of the node that they are to use, or of a load balancer before the nodes",
        ),
        (
            node("a", ExternalIP="192.0.2.1", InternalIP="10.0.0.1") + node("b", ExternalIP="192.0.2.2"),
            "eastWestGateway.address: missing, with a choice of 2 addresses (ExternalIP of a 192.0.2.1, b 192.0.2.2), "
            "give the one of the node that they are to use, or of a load balancer before the nodes",
        ),
        (
            node("a", InternalIP="fd00::1"),
            "eastWestGateway.address: missing, and no node of the cluster has an IPv4 address, give it",
        ),
    ],
)
def test_a_choice_of_nodes_is_left_to_the_user(nodes: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(pulumi.RunError) as raised:
        ways.node_ip(nodes)
    assert str(raised.value) == told


def test_the_look_at_a_load_balancer() -> None:
    service = "/api/v1/namespaces/istio-system/services/gateway"
    gateway = "/apis/networking.istio.io/v1/namespaces/istio-system/gateways/istiod-gateway"
    marked = {"metadata": {"annotations": {ways.IN_USE: "192.0.2.1"}}}

    def look(points: Points, **more: Any) -> tuple[Balancer | None, list[str]]:
        cluster = FakeCluster({service: {"status": {"loadBalancer": {"ingress": points}}}, **more})
        return ways.read_balancer(cluster.get, "gateway", "istiod-gateway"), cluster.asked

    ip, name = [{"ip": "10.0.0.1"}], [{"hostname": "lb.example"}]
    assert look(ip, **{gateway: marked}) == (Balancer(points=ip), [service]), "an IP needs no memory"
    assert look(name, **{gateway: marked}) == (Balancer(points=name, in_use="192.0.2.1"), [service, gateway])
    assert look(name) == (Balancer(points=name), [service, gateway])
    assert look([]) == (None, [service])
    assert ways.read_balancer(FakeCluster().get, "gateway", "istiod-gateway") is None
