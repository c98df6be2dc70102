"""A meshed pod and the VMs talk by name under STRICT mutual TLS, and plain text is refused on both sides."""

from __future__ import annotations

from collections.abc import Iterator

import pods
import pytest
from pods import curl
from stack import Kubectl, eventually, ssh_argv

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def meshed_pod(joined: object, kubectl: Kubectl) -> Iterator[str]:
    """The address of a pod in the mesh that runs hello, with the whole mesh STRICT."""
    with pods.meshed_pod(kubectl) as address:
        yield address


def test_pod_reaches_the_vms_service_by_name(meshed_pod: str, kubectl: Kubectl) -> None:
    def answers() -> set[str]:
        done = [curl(pods.in_pod(kubectl), "http://billing.vm-apps/") for _ in range(8)]
        return {answer.stdout.strip() for answer in done}

    both = {f"Hello version: v1, instance: billing-{n}" for n in (1, 2)}
    eventually(lambda: both <= answers(), seconds=30, what="both VMs answer a meshed pod")


@pytest.mark.parametrize("vm", ["10.77.0.21", "10.77.0.22"])
def test_vm_reaches_a_pods_service_by_name(meshed_pod: str, vm: str) -> None:
    prefix = ssh_argv(vm, [])

    def answer() -> bool:
        return curl(prefix, "http://hello.traffic/").stdout.startswith("Hello version: pod, instance: hello-")

    eventually(answer, seconds=30, what=f"{vm} reaches the pod by its service's name")


@pytest.mark.parametrize("vm", ["10.77.0.21", "10.77.0.22"])
def test_plain_text_to_a_vm_is_refused(meshed_pod: str, vm: str) -> None:
    done = curl(["nsenter", "--net=/run/netns/ivm-node1"], f"http://{vm}:8080/")
    assert done.returncode in (52, 56), done  # an empty reply or a reset: the sidecar wants TLS
    assert "Hello" not in done.stdout


def test_plain_text_to_a_pod_is_refused(meshed_pod: str) -> None:
    done = curl(["nsenter", "--net=/run/netns/ivm-node1"], f"http://{meshed_pod}:8080/")
    assert done.returncode in (52, 56), done
    assert "Hello" not in done.stdout


def test_without_strict_plain_text_would_be_answered(meshed_pod: str, kubectl: Kubectl) -> None:
    """The counter-check: it is the policy that refuses, not the network."""
    permissive = '{"spec": {"mtls": {"mode": "%s"}}}'
    patch = ["-n", "istio-system", "patch", "peerauthentication", "strict", "--type=merge", "-p"]
    kubectl(*patch, permissive % "PERMISSIVE")
    try:
        for address in (meshed_pod, "10.77.0.21"):
            prefix = ["nsenter", "--net=/run/netns/ivm-node1"]
            url = f"http://{address}:8080/"
            # Called in this round only, so it sees this round's values.
            eventually(lambda: curl(prefix, url).stdout.startswith("Hello"), seconds=30, what=url)  # noqa: B023
    finally:
        kubectl(*patch, permissive % "STRICT")
