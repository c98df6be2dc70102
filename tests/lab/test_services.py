"""Hosts that are no Kubernetes Services: VMs and pods under one name, names outside the cluster, fixed endpoints."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from typing import Any

import pytest
import shop_pods
from stack import Kubectl, Stack, changes, eventually, ssh_argv

from lab.runtime import Lab
from lab.spec import VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.timeout(420)]

ON_VM = ssh_argv("10.77.0.21", [])
ALLOCATED = ipaddress.ip_network("240.240.0.0/16")
OUTSIDE = VmSpec(name="outside-1", address="10.77.0.101", version="outside")


def resolved(prefix: list[str], host: str) -> set[str]:
    """The IPv4 addresses that a host's name has there."""
    done = subprocess.run([*prefix, "getent", "ahostsv4", host], capture_output=True, text=True, timeout=30)
    return {line.split()[0] for line in done.stdout.splitlines()}


def answers(prefix: list[str], url: str, times: int = 9) -> set[str]:
    """Who answers, with an empty text for no answer: one command asks often, and sidecars choose for each request."""
    argv = [*prefix, "curl", "-sS", "--max-time", "5", *[url] * times]
    given = subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout.splitlines()
    return {*given, *[""] * (times - len(given))}


def entries(kubectl: Kubectl) -> list[str]:
    items: list[dict[str, Any]] = json.loads(kubectl("get", "serviceentries", "-A", "-o", "json"))["items"]
    return [f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in items]


def test_a_workloads_host_outside_the_cluster_has_an_address_and_answers(stack: Stack, kubectl: Kubectl) -> None:
    stack.billing["service"]["host"] = "billing.mesh.internal"
    assert changes(stack.preview()) == {"billing-service": "delete", "billing-service-entry": "create"}
    stack.up()
    assert entries(kubectl) == ["vm-apps/billing"]
    both = {f"Hello version: v1, instance: billing-{n}" for n in (1, 2)}
    eventually(
        lambda: answers(ON_VM, "http://billing.mesh.internal/") == both, seconds=30, what="both VMs answer a VM by name"
    )
    (address,) = resolved(ON_VM, "billing.mesh.internal")
    assert ipaddress.ip_address(address) in ALLOCATED
    assert stack.outputs()["workloads"]["billing"]["host"] == "billing.mesh.internal"
    assert changes(stack.preview()) == {}

    del stack.billing["service"]["host"]
    stack.up()
    assert entries(kubectl) == []
    eventually(lambda: not resolved(ON_VM, "billing.mesh.internal"), seconds=30, what="the name is gone on the VM")


def test_vms_and_pods_answer_under_one_host(stack: Stack, kubectl: Kubectl) -> None:
    stack.config["istio"]["mutualTls"] = "STRICT"
    stack.config["namespaces"] = {"vm-apps": {"injection": "byPod"}}
    stack.config["services"] = {
        "spanning": {
            "namespace": "vm-apps",
            "hosts": ["spanning.mesh.internal"],
            "ports": {"http": 80},
            "targetPorts": {"http": 8080},
            "selector": {"app": "billing"},
            "pods": True,
        }
    }
    assert changes(stack.preview()) == {
        "vm-apps-namespace": "update",
        "istio-system-policies": "create",
        "istio-system-mutual-tls": "create",
        "spanning": "create",
        "spanning-service-entry": "create",
    }
    stack.up()
    shop_pods.run(kubectl, "moved", "vm-apps", app="billing")
    in_pod = shop_pods.inside(kubectl, "moved", "vm-apps")

    def kinds(prefix: list[str], url: str) -> set[str]:
        return {"pod" if answer.startswith("Hello version: pod") else answer for answer in answers(prefix, url, 15)}

    all_kinds = {f"Hello version: v1, instance: billing-{n}" for n in (1, 2)} | {"pod"}
    try:
        for url in ("http://spanning.mesh.internal/", "http://billing.vm-apps.svc.cluster.local/"):
            for prefix in (ON_VM, in_pod):
                where = f"VMs and the pod answer under {url} {'on a VM' if prefix is ON_VM else 'in a pod'}"
                eventually(lambda: kinds(prefix, url) == all_kinds, seconds=40, what=where)  # noqa: B023  this round's
        for prefix in (ON_VM, in_pod):
            (address,) = resolved(prefix, "spanning.mesh.internal")
            assert ipaddress.ip_address(address) in ALLOCATED

        del stack.config["services"]
        stack.up()
        assert entries(kubectl) == []
        for prefix in (ON_VM, in_pod):
            gone = lambda: not resolved(prefix, "spanning.mesh.internal")  # noqa: B023, E731  this round's
            eventually(gone, seconds=30, what="the name is gone")
    finally:
        kubectl("-n", "vm-apps", "delete", "deploy", "moved", "--wait=true")


def test_fixed_endpoints_answer_until_they_are_taken_out(stack: Stack, lab: Lab, kubectl: Kubectl) -> None:
    lab.add_vm(OUTSIDE)
    try:
        stack.config["services"] = {
            "legacy": {
                "namespace": "vm-apps",
                "hosts": ["legacy.example.com"],
                "ports": {"http": 80},
                "targetPorts": {"http": 8080},
                "location": "MESH_EXTERNAL",
                "addresses": ["10.100.0.7"],
                "endpoints": [{"address": OUTSIDE.address}],
            }
        }
        assert changes(stack.preview()) == {"legacy": "create", "legacy-service-entry": "create"}
        stack.up()
        answer = {"Hello version: outside, instance: outside-1"}
        url = "http://legacy.example.com/"
        eventually(lambda: answers(ON_VM, url, 3) == answer, seconds=30, what="the fixed endpoint answers a VM")
        assert resolved(ON_VM, "legacy.example.com") == {"10.100.0.7"}
        assert stack.outputs()["services"] == {
            "legacy": {"hosts": ["legacy.example.com"], "ports": {"http": 80}, "namespace": "vm-apps"}
        }
        del stack.config["services"]
        assert changes(stack.preview()) == {"legacy": "delete", "legacy-service-entry": "delete"}
        stack.up()
        assert entries(kubectl) == []
        eventually(lambda: not resolved(ON_VM, "legacy.example.com"), seconds=30, what="the name is gone on the VM")
    finally:
        lab.remove_vm(OUTSIDE.name)


def test_istiod_takes_what_the_settings_take(stack: Stack, kubectl: Kubectl) -> None:
    """Every kind of entry and rule once, past the CRDs' schemas and istiod's webhook."""
    far = {"namespace": "vm-apps", "ports": {"http": 80}}
    endpoint = {
        "address": "10.77.0.102",
        "ports": {"grpc-web-x": 9000},
        "labels": {"version": "v1", "example.com/empty": ""},
        "weight": 2,
        "network": "net_1.a",
        "locality": "eu/north/1",
        "serviceAccount": "legacy",
    }
    protocols = {
        "grpc": 1,
        "grpc-web-x": 2,
        "http2-a": 3,
        "https-a": 4,
        "tls": 5,
        "mongo": 6,
        "redis": 7,
        "mysql": 8,
        "udp": 9,
        "x" * 62: 10,
    }
    stack.config["services"] = {
        "kinds": far | {"hosts": ["kinds.mesh.internal"], "ports": protocols, "endpoints": [endpoint]},
        "empty": far | {"hosts": ["e.mesh.internal"], "selector": {"a": "", "b.example/c": "d_e.f"}, "pods": True},
        "names": far | {"hosts": ["n.mesh.internal"], "resolution": "DNS", "endpoints": [{"address": "db"}]},
        "hosts": far | {"hosts": ["h1.example", "h2.example"], "resolution": "DNS", "location": "MESH_EXTERNAL"},
        "one": far | {"hosts": ["1.mesh.internal"], "resolution": "DNS_ROUND_ROBIN", "addresses": ["10.100.1.1"]},
        "range": far | {"hosts": ["r.internal"], "resolution": "NONE", "addresses": ["10.101.0.0/16", "10.102.0.1/32"]},
        "seen": far | {"hosts": ["s.internal"], "resolution": "NONE", "exportTo": [".", "shop"]},
        "unseen": far | {"hosts": ["s.internal"], "resolution": "DNS", "exportTo": ["~"], "subjectAltNames": ["a.b"]},
    }
    callers = ["billing", "shop/*", "*", "shop/a.b", "spiffe://other.domain/ns/shop/sa/cart"]
    stack.billing["access"] = [
        {
            "from": callers,
            "methods": ["GET", "M-SEARCH"],
            "paths": ["/", "/a/*", "*/b", "*", "/a%20b,c"],
            "ports": ["http"],
        },
        {"ports": [8080]},
    ]
    stack.config["namespaces"] = {"vm-apps": {"access": [{"from": ["*"]}, {"ports": [1, 65535]}]}}
    stack.up()
    assert entries(kubectl) == sorted(f"vm-apps/{name}" for name in stack.config["services"])
    assert changes(stack.preview()) == {}
    # The counter-check: the webhook does judge.
    wrong = '{"spec": {"endpoints": [{"address": "a.9"}]}}'
    refused = subprocess.run(
        [*kubectl.argv, "-n", "vm-apps", "patch", "serviceentry", "names", "--type=merge", "-p", wrong],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert 'endpoint address "a.9" is not a valid FQDN or an IP address' in refused.stderr
