"""Every way to istiod that a stack can ask for ends with healthy VMs, whose agents are connected just that way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from stack import Kubectl, Stack, changes, eventually

from lab.runtime import Lab, VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(420)]

HOST = "istiod.istio-system.svc"
BALANCER, NODE = "10.77.0.200", "10.77.0.10"
GATEWAY = ("-n", "istio-system", "service", "istio-eastwestgateway")
SERVICES, PODS = "10.96.0.0/16", "10.244.0.0/16"
ROUTES = [{"to": SERVICES, "via": NODE}, {"to": PODS, "via": NODE}]
UNIT = "/etc/systemd/system/istio-vm-mesh-routes.service"
FAR = VmSpec(name="ways-1", address="10.77.0.40", routed=False)
"""A VM without a way to pods and services of its own."""


def on(lab: Lab, vm: str, script: str) -> str:
    """What a script prints on a VM; a failure fails the test."""
    done = lab.vm_exec(vm, ["sh", "-c", script])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def hold(stack: Stack, lab: Lab, istiod: Mapping[str, Any]) -> None:
    """Every VM is healthy, its agent connected to istiod as the outputs say; a second run would change nothing."""
    outputs = stack.outputs()
    assert outputs["mesh"]["istiod"] == istiod
    states = stack.states()
    assert set(states.values()) == {"healthy"}, states
    to = f"ss -Htnp state established dst {istiod['address']} dport = :{istiod['port']}"
    for vm in states:
        assert f"{istiod['address']} {istiod['host']}" in on(lab, vm, "cat /etc/hosts").splitlines()
    # A gateway that has gone takes the agents' connections with it, once all VMs have the new way.
    eventually(
        lambda: all("pilot-agent" in on(lab, vm, to) for vm in states), seconds=30, what=f"agents connect to {to}"
    )
    assert changes(stack.preview()) == {}


def test_a_load_balancer_with_an_address(joined: Stack, lab: Lab) -> None:
    hold(joined, lab, {"host": HOST, "address": BALANCER, "port": 15012})
    assert joined.outputs()["mesh"]["gateways"] == {"eastWest": BALANCER}


@pytest.fixture
def names(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hosts file that the stack's runs see for the machine's, in a mount namespace of their own."""
    hosts, plain = tmp_path / "hosts", stack.argv
    hosts.write_text("127.0.0.1 localhost\n")
    bind = 'mount --bind "$0" /etc/hosts && exec "$@"'

    def argv(verb: str, *flags: str) -> list[str]:
        return ["unshare", "--mount", "sh", "-c", bind, str(hosts), *plain(verb, *flags)]

    monkeypatch.setattr(stack, "argv", argv)
    return hosts


def test_a_load_balancer_with_only_a_name(stack: Stack, lab: Lab, kubectl: Kubectl, names: Path) -> None:
    def shown(key: str) -> str:
        return kubectl("get", *GATEWAY, "-o", f"jsonpath={{.status.loadBalancer.ingress[0].{key}}}")

    names.write_text(f"127.0.0.1 localhost\n{BALANCER} balancer.lab\n")
    gateway = stack.config["eastWestGateway"]
    # kube-proxy leads nothing to a Service that shows only a name; clouds do that before the cluster.
    named = {"annotations": {"lab/load-balancer-name": "balancer.lab"}, "externalIPs": [BALANCER]}
    gateway["values"] = {"service": named}
    stack.up()
    eventually(lambda: shown("hostname") == "balancer.lab", seconds=20, what="the load balancer shows its name")
    stack.up()
    try:
        hold(stack, lab, {"host": HOST, "address": BALANCER, "port": 15012})
        assert stack.outputs()["mesh"]["gateways"] == {"eastWest": "balancer.lab"}

        # Another address comes, and before the one in use.
        names.write_text(f"127.0.0.1 localhost\n10.77.0.150 balancer.lab\n{BALANCER} balancer.lab\n")
        assert changes(stack.preview()) == {}

        names.write_text("127.0.0.1 localhost\n")
        refused = stack.run("preview")
        assert refused.returncode != 0
        told = refused.stdout + refused.stderr
        assert "its load balancer has only a name, balancer.lab, which has no IPv4 address" in told
        assert "give hosts.istiodAddress" in told
        assert "Traceback" not in told
        stack.config["hosts"]["istiodAddress"] = BALANCER
        stack.up()
        hold(stack, lab, {"host": HOST, "address": BALANCER, "port": 15012})
    finally:
        names.write_text(f"127.0.0.1 localhost\n{BALANCER} balancer.lab\n")
        del gateway["values"]
        stack.up()
        eventually(lambda: shown("ip") == BALANCER, seconds=20, what="the load balancer shows its address")


def test_node_ports(stack: Stack, lab: Lab, kubectl: Kubectl) -> None:
    stack.config["eastWestGateway"] |= {"service": "NodePort", "nodePorts": {"istiod": 31012}}
    stack.up()
    hold(stack, lab, {"host": HOST, "address": NODE, "port": 31012})
    assert stack.outputs()["mesh"]["gateways"] == {"eastWest": NODE}
    assert f"  discoveryAddress: {HOST}:31012" in on(lab, "billing-1", "cat /etc/istio/config/mesh").splitlines()
    assert f"CA_ADDR='{HOST}:31012'" in on(lab, "billing-1", "cat /var/lib/istio/envoy/cluster.env").splitlines()

    # Without a number, Kubernetes' own is used; it keeps the one that it has.
    del stack.config["eastWestGateway"]["nodePorts"]
    stack.config["eastWestGateway"]["address"] = NODE
    assert stack.preview()
    stack.up()
    port = kubectl("get", *GATEWAY, "-o", 'jsonpath={.spec.ports[?(@.name=="tls-istiod")].nodePort}')
    hold(stack, lab, {"host": HOST, "address": NODE, "port": int(port)})


def test_a_revision_of_istiod(stack: Stack, lab: Lab) -> None:
    host = "istiod-canary.istio-system.svc"
    stack.config["istio"]["revision"] = "canary"
    stack.up()
    hold(stack, lab, {"host": host, "address": BALANCER, "port": 15012})
    assert stack.outputs()["mesh"]["revision"] == "canary"
    assert f"CA_ADDR='{host}:15012'" in on(lab, "billing-1", "cat /var/lib/istio/envoy/cluster.env").splitlines()
    assert f"  discoveryAddress: {host}:15012" in on(lab, "billing-1", "cat /etc/istio/config/mesh").splitlines()
    assert HOST not in on(lab, "billing-1", "cat /etc/hosts").replace(host, "")


@pytest.fixture
def far(stack: Stack, lab: Lab) -> Iterator[Stack]:
    """The dev stack with a third VM, which has no way to the cluster's network."""
    lab.add_vm(FAR)
    assert on(lab, FAR.name, "ip -4 route show via 10.77.0.10") == ""
    stack.billing["vms"][FAR.name] = {"address": FAR.address}
    yield stack
    if FAR.name in stack.states():
        stack.billing["vms"].pop(FAR.name, None)
        stack.up()
    lab.remove_vm(FAR.name)


def own_routes(lab: Lab, vm: str) -> list[str]:
    return sorted(line.split()[0] for line in on(lab, vm, "ip -4 route show proto 151").splitlines())


def test_without_a_gateway_over_routes(far: Stack, lab: Lab, kubectl: Kubectl) -> None:
    stack = far
    stack.config["eastWestGateway"] = {"service": "none"}
    stack.config["hosts"]["routes"] = ROUTES
    before = on(lab, "billing-1", "ip -4 route")
    stack.up()
    ip = kubectl("get", "-n", "istio-system", "service", "istiod", "-o", "jsonpath={.spec.clusterIP}")
    istiod = {"host": HOST, "address": ip, "port": 15012}
    hold(stack, lab, istiod)
    assert stack.outputs()["mesh"]["gateways"] == {}
    assert own_routes(lab, FAR.name) == sorted([PODS, SERVICES])
    assert on(lab, "billing-1", "ip -4 route") == before, "routes that are there already stay as they are"

    # Right after a reboot, before the sidecar starts.
    lab.vm_power_off(FAR.name)
    lab.vm_power_on(FAR.name)
    assert own_routes(lab, FAR.name) == sorted([PODS, SERVICES])
    begun = "systemctl show -p ActiveEnterTimestampMonotonic -p ExecMainStartTimestampMonotonic"
    times = dict(line.split("=") for line in on(lab, FAR.name, f"{begun} istio-vm-mesh-routes").splitlines())
    start = on(lab, FAR.name, "systemctl show -P ExecMainStartTimestampMonotonic istio")
    assert 0 < int(times["ActiveEnterTimestampMonotonic"]) < int(start)
    eventually(lambda: stack.live()[FAR.name] == "healthy", seconds=60, what="the VM is back by itself")
    hold(stack, lab, istiod)

    # What would cut off those who set it up is refused before anything changes.
    seen = f"cat {UNIT} /var/lib/istio-vm-mesh/desired; ip -4 route"
    kept = on(lab, FAR.name, seen)
    stack.billing["vms"][FAR.name]["routes"] = [*ROUTES, {"to": "10.77.0.128/25", "via": NODE}]
    refused = stack.run("up")
    assert refused.returncode != 0
    assert '"code":"route-captures-ssh"' in refused.stdout + refused.stderr
    assert on(lab, FAR.name, seen) == kept

    # One route less, and then none: the VM leaves.
    stack.billing["vms"][FAR.name]["routes"] = ROUTES[:1]
    stack.up()
    hold(stack, lab, istiod)
    assert own_routes(lab, FAR.name) == [SERVICES]
    del stack.billing["vms"][FAR.name]
    stack.up()
    assert own_routes(lab, FAR.name) == []
    residue = (
        f"ls {UNIT} /etc/systemd/system/*/istio-vm-mesh-routes.service 2>/dev/null; systemctl cat istio-vm-mesh-routes"
    )
    assert lab.vm_exec(FAR.name, ["sh", "-c", residue]).stdout == ""
