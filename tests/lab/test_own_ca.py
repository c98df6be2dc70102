"""An authority of one's own: istiod signs with it from its first certificate on, and another one is announced."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from authorities import Made, make, put
from cryptography import x509
from stack import Kubectl, Stack, changes, eventually

from lab.paths import PULUMI
from lab.runtime import Lab

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(420)]

SECRET = ("-n", "istio-system", "secret", "cacerts")


def certificates(lab: Lab, vm: str, file: str) -> list[x509.Certificate]:
    """The certificates in a file of those that the agent keeps on a VM."""
    done = lab.vm_exec(vm, ["cat", f"/etc/certs/{file}"])
    assert done.returncode == 0, done.stderr
    return x509.load_pem_x509_certificates(done.stdout.encode())


def hold(stack: Stack, lab: Lab, authority: Made, root: str) -> None:
    """Every VM is healthy with a certificate of the authority, and trusts the roots."""
    assert set(stack.states().values()) == {"healthy"}
    for vm in stack.states():
        leaf, above, *_ = certificates(lab, vm, "cert-chain.pem")
        assert above == authority.certificate
        leaf.verify_directly_issued_by(above)
        # The agent writes several roots in an order of its own.
        assert set(certificates(lab, vm, "root-cert.pem")) == set(x509.load_pem_x509_certificates(root.encode()))
    assert changes(stack.preview()) == {}


def gateway_trusts(kubectl: Kubectl, root: Made) -> bool:
    """Whether the gateway's agent has a root already: the kubelet takes a minute to hand a new one over."""
    gateway = ("-n", "istio-system", "exec", "deploy/istio-eastwestgateway", "--")
    return root.pem.strip() in kubectl(*gateway, "cat", "/var/run/secrets/istio/root-cert.pem")


@pytest.fixture
def folder(stack: Stack) -> Path:
    return stack.file.parent / "ca"


@pytest.fixture
def made_anew(stack: Stack) -> Iterator[Stack]:
    """The stack, destroyed before the test and afterwards."""
    destroy(stack)
    yield stack
    destroy(stack)


def destroy(stack: Stack) -> None:
    done = stack.run("destroy")
    assert done.returncode == 0, done.stdout + done.stderr


def test_vms_chain_to_the_root_of_ones_own_and_to_the_next_one(
    made_anew: Stack, lab: Lab, kubectl: Kubectl, folder: Path
) -> None:
    stack, root = made_anew, make("First Root")
    own = make("Own", root)
    stack.config["istio"]["caSecret"] = put(folder, certificate=own, root=root.pem)
    printed = stack.up()
    hold(stack, lab, own, root.pem)
    pod_root = kubectl(
        "-n", "istio-system", "get", "cm", "istio-ca-root-cert", "-o", r"jsonpath={.data.root-cert\.pem}"
    )
    assert pod_root.strip() == root.pem.strip()
    # The key is where istiod reads it, and nowhere else.
    held = json.loads(kubectl("get", *SECRET, "-o", "json"))["data"]["ca-key.pem"]
    key = base64.b64decode(held).decode()
    for line in (key.splitlines()[1], held[:60]):
        assert line not in printed
        for file in PULUMI.rglob("*"):
            assert not file.is_file() or line not in file.read_text(errors="replace"), file

    # Another root, in the three steps of docs/control-plane.md: nothing is cut off, as istiod is trusted in each.
    other = make("Second Root")
    both = other.pem + root.pem
    successor = make("Successor", other)
    stack.config["istio"]["caSecret"] = put(folder, certificate=own, root=both)
    done = stack.run("preview")
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "the mesh gets another root of trust: istiod restarts, and every VM gets it with a new token; what" in told
    plan = changes(stack.preview())
    assert "replace" in plan["istio-ca"]
    assert [op for name, op in plan.items() if name.endswith("istio-system/istiod") and op == "update"]
    assert "billing-1-configure" in plan
    stack.up()
    hold(stack, lab, own, both)
    eventually(lambda: gateway_trusts(kubectl, other), seconds=120, what="the gateway has both roots", every=5)

    # VMs renew their certificates by themselves: nothing is changed on them.
    stack.config["istio"]["caSecret"] = put(folder, certificate=successor, root=both)
    assert not [name for name in changes(stack.preview()) if name.startswith("billing")]
    stack.up()

    # With the new root alone they get certificates under it.
    stack.config["istio"]["caSecret"] = put(folder, certificate=successor, root=other.pem)
    stack.up()
    hold(stack, lab, successor, other.pem)


def test_a_broken_chain_is_refused_before_anything(stack: Stack, folder: Path, kubectl: Kubectl) -> None:
    root = make("Root")
    stack.config["istio"]["caSecret"] = put(folder, certificate=make("Own", make("Middle", root)), root=root.pem)
    for verb in ("preview", "up"):
        done = stack.run(verb)
        assert done.returncode != 0
        told = done.stdout + done.stderr
        assert "istio.caSecret.certificate: CN=Own is not signed by CN=Root (got" in told
        assert "Traceback" not in told
    assert kubectl("get", *SECRET, "--ignore-not-found") == ""


def test_a_secret_that_somebody_else_keeps_is_used_and_left(
    made_anew: Stack, lab: Lab, kubectl: Kubectl, folder: Path
) -> None:
    stack, root = made_anew, make("Kept Root")
    own = make("Kept", root)
    stack.config["istio"]["caSecret"] = {"existing": "cacerts"}
    done = stack.run("up")
    assert done.returncode != 0
    assert "Secret istio-system/cacerts is not there, make it before this stack" in done.stdout + done.stderr
    files = put(folder, certificate=own, root=root.pem, chain=own.pem)
    names = {"certificate": "ca-cert.pem", "key": "ca-key.pem", "root": "root-cert.pem", "chain": "cert-chain.pem"}
    kubectl("create", "namespace", "istio-system")
    try:
        kubectl(
            "create",
            *SECRET[:2],
            "secret",
            "generic",
            "cacerts",
            *(f"--from-file={names[k]}={v}" for k, v in files.items()),
        )
        before = json.loads(kubectl("get", *SECRET, "-o", "json"))
        stack.up()
        hold(stack, lab, own, root.pem)
        destroy(stack)
        assert json.loads(kubectl("get", *SECRET, "-o", "json")) == before
        labels = json.loads(kubectl("get", "namespace", "istio-system", "-o", "json"))["metadata"]["labels"]
        assert labels == {"kubernetes.io/metadata.name": "istio-system"}
    finally:
        destroy(stack)
        kubectl("delete", "namespace", "istio-system", "--wait=true")
    eventually(lambda: not kubectl("get", "ns", "istio-system", "--ignore-not-found"), seconds=30, what="it is gone")
