"""A canary: a second istiod beside the first takes over VMs and pods, becomes the main one, and the first goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pods
import pytest
from pods import curl
from stack import Kubectl, Stack, changes, committed_config, eventually, ssh_argv

from components.values import deep_merge
from lab.runtime import Lab, VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(1200)]

HOST = VmSpec(name="ledger-1", address="10.77.0.46")
LEDGER = {
    "namespace": "vm-apps",
    "serviceAccount": "ledger",
    "labels": {"app": "ledger", "version": "v1"},
    "ports": {"http": 8080},
    "probe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 2},
    "service": {"ports": {"http": 80}},
    "vms": {HOST.name: {"address": HOST.address}},
}
TAGGED = pods.MANIFESTS.replace("istio-injection: enabled", "istio.io/rev: prod")
OWN = {"meshConfig": {"defaultConfig": {"proxyMetadata": {"WHOSE": "canary"}}}}
"""What the canary tells its proxies."""


def connected(kubectl: Kubectl, istiod: str) -> set[str]:
    """The proxies that an istiod serves, without what makes pods' names unique."""
    argv = ("-n", "istio-system", "exec", f"deploy/{istiod}", "--", "pilot-discovery", "request", "GET", "/debug/syncz")
    proxies: list[dict[str, Any]] = json.loads(kubectl(*argv))
    names = [tuple(str(proxy.get("proxy") or proxy.get("proxy_id")).rsplit(".", 1)) for proxy in proxies]
    return {f"{name if namespace == 'vm-apps' else name.split('-')[0]}.{namespace}" for name, namespace in names}


def controller(kubectl: Kubectl, entry: str) -> str:
    """The istiod that has registered a VM."""
    found = json.loads(kubectl("-n", "vm-apps", "get", "workloadentry", entry, "-o", "json"))
    return str(found["metadata"]["annotations"]["istio.io/workloadController"])


def istiods(kubectl: Kubectl) -> dict[str, str]:
    """Every istiod that there is, and its identity, which a new installation would not have."""
    found = json.loads(kubectl("-n", "istio-system", "get", "deploy", "-l", "app=istiod", "-o", "json"))["items"]
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in found}


@pytest.fixture
def two(stack: Stack, lab: Lab, kubectl: Kubectl) -> Iterator[Stack]:
    """The stack with a second workload, whose one VM is not billing's."""
    lab.add_vm(HOST)
    stack.config["workloads"]["ledger"] = json.loads(json.dumps(LEDGER))
    yield stack
    kubectl("delete", "namespace", "traffic", "--ignore-not-found", "--wait=true")
    stack.config = committed_config()
    stack.up(timeout=400)
    lab.remove_vm(HOST.name)


def test_a_canary_takes_over(two: Stack, lab: Lab, kubectl: Kubectl) -> None:
    stack, istio = two, two.config["istio"]
    vms = {"billing-1.vm-apps", "billing-2.vm-apps"}

    stack.up()

    # Side by side: a second istiod, and nothing else changes.
    istio["revisionTags"] = ["prod"]
    istio["revisions"] = {"canary": {"values": OWN}}
    planned = changes(stack.preview())
    assert set(planned.values()) == {"create"}, planned
    stack.up()
    before = istiods(kubectl)
    assert set(before) == {"istiod", "istiod-canary"}
    kubectl("apply", "-f", "-", stdin=TAGGED)
    kubectl("-n", "traffic", "rollout", "status", "deploy/hello", "--timeout=90s")
    assert connected(kubectl, "istiod") >= {*vms, "ledger-1.vm-apps", "hello.traffic"}
    assert connected(kubectl, "istiod-canary") == set()

    # One workload moves; the other stays, and they reach each other.
    stack.config["workloads"]["ledger"]["revision"] = "canary"
    stack.up()
    assert set(stack.states().values()) == {"healthy"}
    assert controller(kubectl, f"ledger-{HOST.address}-net1").startswith("istiod-canary-")
    assert not controller(kubectl, "billing-10.77.0.21-net1").startswith("istiod-canary-")
    assert connected(kubectl, "istiod-canary") == {"ledger-1.vm-apps"}
    files = lab.vm_exec(HOST.name, ["cat", "/var/lib/istio/envoy/cluster.env", "/etc/hosts"]).stdout
    assert "CA_ADDR='istiod-canary.istio-system.svc:15012'" in files
    assert "WHOSE='canary'" in files
    assert "10.77.0.200 istiod-canary.istio-system.svc" in files
    assert "WHOSE" not in lab.vm_exec("billing-1", ["cat", "/var/lib/istio/envoy/cluster.env"]).stdout
    for source, url in ((HOST.address, "http://billing.vm-apps/"), ("10.77.0.21", "http://ledger.vm-apps/")):
        prefix = ssh_argv(source, [])
        # Called in this round only, so it sees this round's values.
        eventually(lambda: curl(prefix, url).stdout.startswith("Hello version"), seconds=30, what=url)  # noqa: B023
    assert stack.outputs()["workloads"]["ledger"]["revision"] == "canary"
    assert changes(stack.preview()) == {}

    # The tag points at the canary: one object changes, and pods follow when they are made anew.
    del istio["revisionTags"]
    istio["revisions"]["canary"]["revisionTags"] = ["prod"]
    assert changes(stack.preview()) == {"revision-tags-prod": "update"}
    stack.up()
    assert "hello.traffic" in connected(kubectl, "istiod")
    kubectl("-n", "traffic", "rollout", "restart", "deploy/hello")
    kubectl("-n", "traffic", "rollout", "status", "deploy/hello", "--timeout=90s")
    eventually(
        lambda: connected(kubectl, "istiod-canary") == {"ledger-1.vm-apps", "hello.traffic"},
        seconds=30,
        what="the pod is the canary's",
    )

    # The canary becomes the main one, all VMs go there, and the old one goes.
    istio |= {"revision": "canary", "revisionTags": ["prod"]}
    del istio["revisions"]
    istio["values"] = deep_merge(istio["values"], OWN)
    del stack.config["workloads"]["ledger"]["revision"]
    stack.up(timeout=400)
    assert istiods(kubectl) == {"istiod-canary": before["istiod-canary"]}
    assert set(stack.states().values()) == {"healthy"}
    eventually(
        lambda: connected(kubectl, "istiod-canary") >= {*vms, "ledger-1.vm-apps", "hello.traffic"},
        seconds=30,
        what="all are the canary's",
    )
    answer = curl(pods.in_pod(kubectl), "http://billing.vm-apps/").stdout
    assert answer.startswith("Hello version: v1, instance: billing-")
    gateways = kubectl("-n", "istio-system", "get", "gateways.networking.istio.io", "-o", "name").split()
    assert "gateway.networking.istio.io/istiod-gateway" not in gateways
    assert stack.outputs()["mesh"]["revisions"] == {
        "canary": {"istiod": "istiod-canary.istio-system.svc", "tags": ["prod"]}
    }
    assert changes(stack.preview()) == {}
