"""Mutual TLS, access by identity and injection, as the stack says them: seen by who gets an answer and who does not."""

from __future__ import annotations

import json
import subprocess

import pytest
import shop_pods
from stack import Kubectl, Stack, changes, eventually, ssh_argv

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(420)]

ON_VM = ssh_argv("10.77.0.21", [])
ON_NODE = ["nsenter", "--net=/run/netns/ivm-node1"]
"""Outside of the mesh: whoever calls from there calls in plain text."""
BILLING = "http://billing.vm-apps.svc.cluster.local"
REFUSED = "000"


def statuses(prefix: list[str], url: str, *options: str) -> set[str]:
    """The statuses of a few answers; `REFUSED` without one."""
    asked = ["-o", "/dev/null", url] * 4
    argv = [*prefix, "curl", "-s", "-w", "%{http_code},", "--max-time", "5", *options, *asked]
    return set(subprocess.run(argv, capture_output=True, text=True, timeout=60).stdout.strip(",").split(","))


def all_are(expected: str, *calls: tuple[list[str], str]) -> None:
    """Wait until every call has the status."""
    for prefix, url in calls:
        # Called in this round only, so it sees this round's values.
        there = lambda: statuses(prefix, url) == {expected}  # noqa: B023, E731
        eventually(there, seconds=40, what=f"{expected} from {url}, asked by {' '.join(prefix[:2])}")


def policies(kubectl: Kubectl) -> list[str]:
    items = json.loads(kubectl("get", "peerauthentications,authorizationpolicies", "-A", "-o", "json"))["items"]
    return sorted(f"{i['metadata']['namespace']}/{i['kind']}/{i['metadata']['name']}" for i in items)


def test_mutual_tls_of_the_mesh_and_of_a_namespace(stack: Stack, kubectl: Kubectl) -> None:
    stack.config["namespaces"] = {"shop": {}}
    stack.config["istio"]["mutualTls"] = "STRICT"
    assert changes(stack.preview()) == {
        "shop": "create",
        "shop-namespace": "create",
        "istio-system-policies": "create",
        "istio-system-mutual-tls": "create",
    }
    stack.up()
    pod = shop_pods.run(kubectl, "hello", "shop")
    vm_in_plain, pod_in_plain = (ON_NODE, "http://10.77.0.21:8080/"), (ON_NODE, f"http://{pod}:8080/")
    in_mesh = (shop_pods.inside(kubectl, "hello", "shop"), f"{BILLING}/")
    all_are(REFUSED, vm_in_plain, pod_in_plain)
    all_are("200", in_mesh)

    stack.config["namespaces"]["vm-apps"] = {"mutualTls": "PERMISSIVE"}
    assert changes(stack.preview()) == {"vm-apps-policies": "create", "vm-apps-mutual-tls": "create"}
    stack.up()
    all_are("200", vm_in_plain, in_mesh)
    all_are(REFUSED, pod_in_plain)

    stack.config["namespaces"]["vm-apps"] = {"mutualTls": "DISABLE"}
    assert changes(stack.preview()) == {"vm-apps-mutual-tls": "update"}
    stack.up()
    all_are("200", vm_in_plain, in_mesh)  # clients in the mesh follow: they no longer offer TLS

    stack.config["namespaces"] = {"shop": {}}
    del stack.config["istio"]["mutualTls"]
    stack.up()
    assert policies(kubectl) == []
    all_are("200", vm_in_plain, pod_in_plain, in_mesh)
    assert stack.states() == {"billing-1": "healthy", "billing-2": "healthy"}


def test_access_by_identity(stack: Stack, kubectl: Kubectl) -> None:
    stack.config["namespaces"] = {"shop": {}}
    stack.config["services"] = {
        "hello": {
            "namespace": "shop",
            "hosts": ["hello.mesh.internal"],
            "ports": {"http": 80},
            "targetPorts": {"http": 8080},
            "selector": {"app": "hello"},
            "pods": True,
        }
    }
    stack.billing["access"] = [{"from": ["shop/default"], "methods": ["GET"], "paths": ["/", "/fetch*"]}]
    assert changes(stack.preview()) == dict.fromkeys(
        ["shop", "shop-namespace", "hello", "hello-service-entry", "billing-access"], "create"
    )
    stack.up()
    pod = shop_pods.run(kubectl, "hello", "shop")
    in_pod = shop_pods.inside(kubectl, "hello", "shop")
    from_pod, from_vm = (in_pod, f"{BILLING}/"), (ON_VM, f"{BILLING}/")
    all_are("200", from_pod)
    all_are("403", from_vm, (in_pod, f"{BILLING}/healthz"), (ON_NODE, "http://10.77.0.21:8080/"))
    assert statuses(in_pod, f"{BILLING}/", "-X", "POST") == {"403"}
    assert stack.states() == {"billing-1": "healthy", "billing-2": "healthy"}, "probes do not go through the policy"

    stack.billing["access"] = [{"from": ["billing"], "ports": ["http"]}]
    assert changes(stack.preview()) == {"billing-access": "update"}
    stack.up()
    all_are("200", from_vm)
    all_are("403", from_pod)

    # Pods of a namespace, called by VMs and by one another.
    del stack.billing["access"]
    stack.config["namespaces"]["shop"] = {"access": [{"from": ["billing"]}]}
    assert changes(stack.preview()) == {
        "billing-access": "delete",
        "shop-policies": "create",
        "shop-namespace-access": "create",
    }
    stack.up()
    vm_to_pod, pod_to_pod = (ON_VM, "http://hello.mesh.internal/"), (in_pod, "http://hello.mesh.internal/")
    all_are("200", from_vm, from_pod, vm_to_pod)
    all_are("403", pod_to_pod, (ON_NODE, f"http://{pod}:8080/"))

    stack.config["namespaces"]["shop"] = {"access": []}
    stack.up()
    all_are("403", vm_to_pod)

    stack.config["namespaces"] = {"shop": {}}
    stack.up()
    assert policies(kubectl) == []
    all_are("200", vm_to_pod, pod_to_pod)


def test_injection_is_as_the_namespace_says(stack: Stack, kubectl: Kubectl) -> None:
    stack.config["namespaces"] = {
        "shop": {"labels": {"team": "shop"}},
        "shop-off": {"injection": "disabled"},
        "shop-rev": {"injection": "default"},
        "shop-pods": {"injection": "byPod"},
    }
    stack.up()

    def labels(namespace: str) -> dict[str, str]:
        found: dict[str, str] = json.loads(kubectl("get", "namespace", namespace, "-o", "json"))["metadata"]["labels"]
        return {key: value for key, value in found.items() if key != "kubernetes.io/metadata.name"}

    assert labels("shop") == {"istio-injection": "enabled", "team": "shop"}
    assert labels("shop-off") == {"istio-injection": "disabled"}
    assert labels("shop-rev") == {"istio.io/rev": "default"}
    assert labels("shop-pods") == {}
    assert labels("vm-apps") == {"istio-injection": "disabled"}
    injected = {
        name: tuple(shop_pods.gets_sidecar(kubectl, name, asks=asks) for asks in (False, True))
        for name in ("shop", "shop-off", "shop-rev", "shop-pods", "vm-apps")
    }
    assert injected == {
        "shop": (True, True),
        "shop-off": (False, False),
        "shop-rev": (True, True),
        "shop-pods": (False, True),
        "vm-apps": (False, False),
    }

    stack.config["namespaces"] = {"shop": {"injection": "disabled"}, "vm-apps": {"injection": "byPod"}}
    stack.up()
    assert labels("shop") == {"istio-injection": "disabled"}
    assert not shop_pods.gets_sidecar(kubectl, "shop", asks=True)
    assert [shop_pods.gets_sidecar(kubectl, "vm-apps", asks=asks) for asks in (False, True)] == [False, True]
    there = kubectl("get", "namespaces", "-o", "name").split()
    assert not {"namespace/shop-off", "namespace/shop-rev", "namespace/shop-pods"} & set(there)
    assert stack.states() == {"billing-1": "healthy", "billing-2": "healthy"}
