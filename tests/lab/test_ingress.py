"""Clients outside the mesh and the cluster reach VMs through the ingress gateway, over HTTP and HTTPS."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from requests_in_mesh import upstream
from stack import Kubectl, Stack, changes, eventually
from tls import Authority

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

TO = {"to": "billing.vm-apps.svc.cluster.local"}
NODE = "node1"
OURS = ("-n", "istio-system")


def asked(folder: Path) -> dict[str, Any]:
    """An ingress gateway for three hosts, with a certificate of a test's own authority."""
    authority = Authority(folder)
    certificate, key = authority.issue("shop", "shop.example.com", "*.bank.example.com")
    clients = {"certificateFile": str(certificate), "privateKeyFile": str(key)}
    authority.issue("client", "client.example.com")
    return {
        "enabled": True,
        "annotations": {"example.com/balancer": "public"},
        "nodeSelector": {"example.com/role": "gateway"},
        "nodeLabels": {NODE: {"example.com/role": "gateway"}},
        "certificates": {
            "shop-tls": clients,
            "bank-tls": {**clients, "clientCaFile": str(authority.certificate)},
        },
        "hosts": {
            "plain.example.com": TO,
            "shop.example.com": {**TO, "port": 80, "tls": {"secret": "shop-tls", "httpsRedirect": True}},
            "*.bank.example.com": {**TO, "tls": {"secret": "bank-tls", "mode": "MUTUAL"}},
        },
        "values": {
            "autoscaling": {"enabled": False},
            "imagePullPolicy": "IfNotPresent",
            "resources": {"requests": {"cpu": "10m", "memory": "40Mi"}},
        },
    }


def ask(address: str, url: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """What curl gets at an address, or address and port, outside the mesh and the cluster: where the lab is run."""
    to = f"::{address}" if ":" in address else f"::{address}:"
    argv = ["curl", "-sS", "--noproxy", "*", "--max-time", "5", "--connect-to", to, *flags, url]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30)


def service(kubectl: Kubectl) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kubectl(*OURS, "get", "service", "istio-ingressgateway", "-o", "json"))
    return found


def node_labels(kubectl: Kubectl) -> dict[str, str]:
    labels: dict[str, str] = json.loads(kubectl("get", "node", NODE, "-o", "json"))["metadata"]["labels"]
    return labels


def test_an_ingress_gateway_comes_serves_and_goes(stack: Stack, kubectl: Kubectl, tmp_path: Path) -> None:
    stack.config["ingressGateway"] = asked(tmp_path)
    told = stack.up()
    key = (tmp_path / "shop.key").read_text().splitlines()[1]
    assert key not in told
    address = stack.outputs()["mesh"]["gateways"]["ingress"]
    trust = ("--cacert", str(tmp_path / "ca.crt"))

    # HTTP: from both VMs, in the end by the mesh's own mutual TLS.
    eventually(
        lambda: ask(address, "http://plain.example.com/").stdout.startswith("Hello version: v1, instance: billing-"),
        seconds=30,
        what="a VM answers through the gateway",
    )
    answers = {ask(address, "http://plain.example.com/").stdout.strip() for _ in range(12)}
    assert answers == {f"Hello version: v1, instance: billing-{n}" for n in (1, 2)}
    assert ask(address, "http://other.example.com/", "-o", "/dev/null", "-w", "%{http_code}").stdout == "404"

    # HTTPS, with the certificate that the stack names; plain HTTP only redirects there.
    eventually(
        lambda: ask(address, "https://shop.example.com/", *trust).stdout.startswith("Hello version: v1"),
        seconds=30,
        what="a VM answers over HTTPS",
    )
    redirect = ask(address, "http://shop.example.com/x", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}")
    assert redirect.stdout == "301 https://shop.example.com/x"
    assert ask(address, "https://shop.example.com/").returncode == 60, "without the authority nobody would trust it"

    # Mutual TLS: only with a certificate of the client's.
    own = ("--cert", str(tmp_path / "client.crt"), "--key", str(tmp_path / "client.key"))
    eventually(
        lambda: ask(address, "https://a.bank.example.com/", *trust, *own).stdout.startswith("Hello"),
        seconds=30,
        what="a VM answers a client with a certificate",
    )
    assert ask(address, "https://a.bank.example.com/", *trust).returncode in (16, 35, 55, 56)
    assert ask(address, "http://a.bank.example.com/", "-o", "/dev/null", "-w", "%{http_code}").stdout == "404"

    # Only the ports that are asked for; annotations, the node and its label.
    found = service(kubectl)
    assert [(p["name"], p["port"]) for p in found["spec"]["ports"]] == [("http", 80), ("https", 443)]
    assert found["metadata"]["annotations"]["example.com/balancer"] == "public"
    assert ask(address, "http://plain.example.com:8080/").returncode == 7
    assert node_labels(kubectl)["example.com/role"] == "gateway"
    (pod,) = json.loads(kubectl(*OURS, "get", "pods", "-l", "istio=ingressgateway", "-o", "json"))["items"]
    assert pod["spec"]["nodeSelector"] == {"example.com/role": "gateway"}
    assert changes(stack.preview()) == {}

    # One port less, one host less, another label: no more changes than that.
    gateway = stack.config["ingressGateway"]
    gateway["ports"] = {"https": 443}
    for host in ("plain.example.com", "*.bank.example.com"):
        del gateway["hosts"][host]
    del gateway["hosts"]["shop.example.com"]["tls"]["httpsRedirect"]
    del gateway["nodeSelector"], gateway["annotations"]
    gateway["nodeLabels"] = {NODE: {"example.com/role": "other"}}
    stack.up()
    assert [p["name"] for p in service(kubectl)["spec"]["ports"]] == ["https"]
    assert "example.com/balancer" not in service(kubectl)["metadata"].get("annotations", {})
    assert node_labels(kubectl)["example.com/role"] == "other"
    eventually(
        lambda: ask(address, "https://shop.example.com/", *trust).stdout.startswith("Hello version: v1"),
        seconds=30,
        what="HTTPS is still there",
    )
    eventually(
        lambda: ask(address, "http://shop.example.com/").returncode == 7, seconds=15, what="the other port is closed"
    )
    assert changes(stack.preview()) == {}

    # Without it nothing of it is left.
    del stack.config["ingressGateway"]
    stack.up()
    assert "example.com/role" not in node_labels(kubectl)
    kinds = "service,deployment,serviceaccount,role,rolebinding,secret,gateways.networking.istio.io"
    left = kubectl(*OURS, "get", f"{kinds},virtualservices.networking.istio.io", "-o", "name")
    assert not [name for name in left.split() if "ingress" in name or "-tls" in name]
    assert "ingress" not in stack.outputs()["mesh"]["gateways"]


def test_on_node_ports_in_a_namespace_of_its_own(stack: Stack, kubectl: Kubectl, tmp_path: Path) -> None:
    stack.config["ingressGateway"] = {
        "enabled": True,
        "namespace": "edge",
        "service": "NodePort",
        "ports": {"http": 8080},
        "nodePorts": {"http": 30080},
        "hosts": {"plain.example.com": TO},
        "values": asked(tmp_path)["values"],
    }
    stack.up()
    assert "ingress" not in stack.outputs()["mesh"]["gateways"]
    eventually(
        lambda: ask("10.77.0.10:30080", "http://plain.example.com/").stdout.startswith("Hello version: v1"),
        seconds=30,
        what="a VM answers through a port of the node",
    )
    assert changes(stack.preview()) == {}
    del stack.config["ingressGateway"]
    stack.up()
    assert kubectl("get", "namespace", "edge", "--ignore-not-found", "-o", "name") == ""


def test_requests_through_the_gateway_are_mirrored(stack: Stack, tmp_path: Path) -> None:
    """The service's port is not the gateway's, so a mirror without a port would go nowhere."""
    stack.billing["vms"]["billing-2"]["labels"] = {"version": "v2"}
    subsets = {"v1": {"version": "v1"}, "v2": {"version": "v2"}}
    stack.config["traffic"] = {TO["to"]: {"subsets": subsets, "routes": [{"subset": "v1"}], "mirror": {"subset": "v2"}}}
    stack.config["ingressGateway"] = {
        "enabled": True,
        "service": "NodePort",
        "ports": {"http": 8080},
        "nodePorts": {"http": 30080},
        "hosts": {"plain.example.com": TO},
        "values": asked(tmp_path)["values"],
    }
    stack.up()
    with upstream() as server:

        def fetched(name: str) -> bool:
            url = f"http://plain.example.com{server.through(name)}"
            return ask("10.77.0.10:30080", url, "-o", "/dev/null", "-w", "%{http_code}").stdout == "200"

        eventually(lambda: fetched("first"), seconds=30, what="a VM answers through a port of the node")
        assert all(fetched("copied") for _ in range(10))
        eventually(lambda: len(server.callers("copied")) >= 20, seconds=10, what="every request came twice")
        assert Counter(server.callers("copied")) == {"10.77.0.21": 10, "10.77.0.22": 10}
    del stack.config["ingressGateway"]
    stack.up()


def test_a_label_that_somebody_else_gave_a_node_is_not_taken(stack: Stack, kubectl: Kubectl, tmp_path: Path) -> None:
    kubectl("label", "node", NODE, "example.com/role=theirs")
    try:
        stack.config["ingressGateway"] = {**asked(tmp_path), "service": "NodePort"}
        refused = stack.run("up")
        assert refused.returncode != 0
        assert "already has a value (theirs)" in refused.stdout + refused.stderr
        del stack.config["ingressGateway"]
        stack.up()
        assert node_labels(kubectl)["example.com/role"] == "theirs"
    finally:
        kubectl("label", "node", NODE, "example.com/role-")
