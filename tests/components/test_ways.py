"""Where VMs reach the gateway and istiod: one address out of what the cluster says, or the reason why there is none."""

import asyncio
import json
import subprocess
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pulumi
import pytest

from components import ways
from components.kubectl import ClusterAccess


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
        ('[{"ip": "10.77.0.200"}]', "10.77.0.200"),
        ('[{"hostname": "lb.example"}, {"ip": "10.77.0.200"}, {"ip": "10.77.0.30"}]', "10.77.0.30"),
        ('[{"hostname": "lb.example"}, {"hostname": "a.example"}]', "a.example"),
    ],
)
def test_what_a_load_balancer_is_reached_at(ingress: str, address: str) -> None:
    assert ways.balancer_address(f"{ingress}\n") == address
    if "example" not in address:
        assert done(ways.balancer_ip(f"{ingress}\n192.0.2.1")) == address
        assert done(ways.remembered(f"{ingress}\n")) == {}


@pytest.mark.parametrize("found", [["192.0.2.10", "192.0.2.9"], ["192.0.2.9", "192.0.2.10", "192.0.2.9"]])
def test_the_order_of_a_names_addresses_does_not_matter(monkeypatch: pytest.MonkeyPatch, found: list[str]) -> None:
    monkeypatch.setattr(ways, "resolve", lambda name: found)
    name = '[{"hostname": "lb.example"}]'
    assert done(ways.balancer_ip(f"{name}\n")) == "192.0.2.9"
    assert done(ways.balancer_ip(f"{name}\n192.0.2.10")) == "192.0.2.10", "the one in use stays"
    assert done(ways.balancer_ip(f"{name}\n192.0.2.77")) == "192.0.2.9", "unless the name has lost it"
    assert done(ways.remembered(f"{name}\n192.0.2.10")) == {"annotations": {ways.IN_USE: "192.0.2.10"}}
    assert done(ways.remembered("\n")) == {}


def test_no_address_is_refused_with_the_reason_and_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pulumi.RunError, match=r"has neither an IP nor a host name: \[{}\], give .*hosts.istiodAddress"):
        ways.balancer_address("[{}]\n")

    def unknown(name: str) -> list[str]:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(ways, "resolve", unknown)
    with pytest.raises(pulumi.RunError) as raised:
        done(ways.balancer_ip('[{"hostname": "lb.example"}]\n'))
    assert str(raised.value) == (
        "eastWestGateway: its load balancer has only a name, lb.example, which has no IPv4 address where Pulumi runs "
        "(Name or service not known), and a VM's hosts file needs one: give hosts.istiodAddress"
    )


def test_a_name_is_resolved_where_pulumi_runs() -> None:
    assert set(ways.resolve("localhost")) == {"127.0.0.1"}


def node(name: str, **addresses: str) -> str:
    listed = [{"type": kind, "address": address} for kind, address in addresses.items()]
    return f"{name} {json.dumps(listed, separators=(',', ':'))}\n"


@pytest.mark.parametrize(
    ("nodes", "address"),
    [
        (node("a", InternalIP="10.0.0.1", Hostname="a"), "10.0.0.1"),
        (node("a", InternalIP="10.0.0.1", ExternalIP="192.0.2.1"), "192.0.2.1"),
        (node("a", InternalIP="10.0.0.1") + node("b", InternalIP="10.0.0.2", ExternalIP="192.0.2.2"), "192.0.2.2"),
    ],
)
def test_the_node_that_is_meant(nodes: str, address: str) -> None:
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
def test_a_choice_of_nodes_is_left_to_the_user(nodes: str, told: str) -> None:
    with pytest.raises(pulumi.RunError) as raised:
        ways.node_ip(nodes)
    assert str(raised.value) == told


@pytest.mark.parametrize(
    ("ingress", "printed"),
    [
        ('[{"ip":"10.0.0.1"}]', '[{"ip":"10.0.0.1"}]\n'),
        ('[{"hostname":"lb.example"}]', '[{"hostname":"lb.example"}]\n192.0.2.1'),
        ("", "\n"),
    ],
)
@pytest.mark.parametrize("wait", [True, False])
def test_the_look_at_a_load_balancer(tmp_path: Path, ingress: str, printed: str, wait: bool) -> None:
    if wait and not ingress:
        return
    script = f"#!/bin/sh\ncase \"$*\" in *gateways*) printf 192.0.2.1 ;; *) printf %s '{ingress}' ;; esac\n"
    (tmp_path / "kubectl").write_text(script)
    (tmp_path / "kubectl").chmod(0o755)
    look = ways.read_balancer(ClusterAccess(), "gateway", "istiod-gateway", wait=wait)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    found = subprocess.run(["sh", "-c", look], env=environment, capture_output=True, text=True, timeout=20)
    assert (found.returncode, found.stdout, found.stderr) == (0, printed, "")
    (tmp_path / "kubectl").write_text("#!/bin/sh\necho refused >&2; exit 1\n")
    found = subprocess.run(["sh", "-c", look], env=environment, capture_output=True, text=True, timeout=20)
    assert (found.returncode, found.stderr) == (1, "refused\n")
