"""A VM's credential on real VMs: revoked, renewed, run out while the VM was off, and stolen."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import yaml
from stack import Kubectl, Stack, changes, eventually

from lab.runtime import Lab
from registration.credentials import ASKED, BARE, BECAUSE, RAN_OUT

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(400)]

VM = "billing-2"
TOKEN = "/var/run/secrets/tokens/istio-token"
HELPER = "/usr/local/lib/istio-vm-mesh/host"
REFUSED = "Unauthenticated|authentication failure"


def secret_of(kubectl: Kubectl, vm: str = VM) -> dict[str, Any]:
    """The metadata of the one Secret that a VM's token is bound to."""
    found = kubectl("get", "secrets", "-n", "vm-apps", "-l", f"istio-vm-mesh/vm={vm}", "-o", "json")
    (secret,) = json.loads(found)["items"]
    metadata: dict[str, Any] = secret["metadata"]
    return metadata


def number(name: str) -> int:
    return int(name.partition(".")[2] or 1)


def on_vm(lab: Lab, vm: str, script: str, timeout: float = 60) -> str:
    done = lab.vm_exec(vm, ["sh", "-c", script], timeout=timeout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def has_entry(kubectl: Kubectl, address: str) -> bool:
    items = json.loads(kubectl("get", "workloadentries", "-n", "vm-apps", "-o", "json"))["items"]
    return any(item["spec"]["address"] == address for item in items)


def credential_changes(stack: Stack, vm: str = VM) -> dict[str, str]:
    ops = changes(stack.preview())
    return {name.removeprefix(f"{vm}-"): op for name, op in ops.items() if name.startswith(f"{vm}-")}


def begin_anew(lab: Lab, vm: str) -> None:
    """Take the certificate from a VM and start its sidecar: it has to enrol with the token that it has."""
    on_vm(
        lab, vm, "systemctl stop istio; rm -f /etc/certs/key.pem /etc/certs/cert-chain.pem; : >/var/log/istio/istio.log"
    )
    on_vm(lab, vm, "systemctl start istio")


def refused(lab: Lab, vm: str) -> bool:
    return bool(on_vm(lab, vm, f"grep -E '{REFUSED}' /var/log/istio/istio.log | tail -n 1 || true"))


def test_deleting_the_secret_revokes_the_token_and_renew_gives_a_new_one_once(
    stack: Stack, lab: Lab, kubectl: Kubectl
) -> None:
    # A token of its own, in case the lab's has run out since it was started.
    before = number(secret_of(kubectl)["name"])
    stack.config["renew"] = [VM]
    assert credential_changes(stack) == dict.fromkeys(["membership", "enrol", "confirm"], "update")
    stack.up()
    renewed = secret_of(kubectl)
    assert (number(renewed["name"]), renewed["annotations"][BECAUSE]) == (before + 1, ASKED)
    assert stack.states()[VM] == "healthy"
    assert changes(stack.preview()) == {}, "a name that stays there does nothing more"

    del stack.config["renew"]
    assert set(credential_changes(stack)) == {"membership"}, "taking the name out mints nothing"
    token = on_vm(lab, VM, f"sha256sum {TOKEN}")
    stack.up()
    assert on_vm(lab, VM, f"sha256sum {TOKEN}") == token
    assert secret_of(kubectl)["uid"] == renewed["uid"]
    assert changes(stack.preview()) == {}

    begin_anew(lab, VM)
    eventually(lambda: on_vm(lab, VM, "cat /etc/certs/cert-chain.pem || true"), seconds=30, what="the token is good")
    kubectl("delete", "secret", "-n", "vm-apps", renewed["name"])
    time.sleep(12)  # the API server's cache of tokens
    begin_anew(lab, VM)
    eventually(lambda: refused(lab, VM), seconds=30, what="istiod refuses the revoked token")
    assert on_vm(lab, VM, "ls /etc/certs") == "root-cert.pem\n"
    assert credential_changes(stack) == {}, "what is revoked by hand is left so"

    stack.config["renew"] = [VM]
    stack.up()
    assert number(secret_of(kubectl)["name"]) > before + 1
    eventually(lambda: stack.live()[VM] == "healthy", seconds=60, what="the VM is back")


def test_a_vm_that_was_off_for_longer_than_its_certificate_lives_comes_back_with_one_up(
    stack: Stack, lab: Lab, kubectl: Kubectl
) -> None:
    stack.billing["annotations"] = {"proxy.istio.io/config": yaml.safe_dump({"proxyMetadata": {"SECRET_TTL": "50s"}})}
    stack.up()
    before = number(secret_of(kubectl)["name"])
    lab.vm_power_off(VM)
    off = time.monotonic()
    try:
        # While it is off, no token could be brought to it: none is minted.
        eventually(lambda: not has_entry(kubectl, "10.77.0.22"), seconds=90, what="istiod forgets the VM")
        assert "membership" not in credential_changes(stack)
        time.sleep(max(0.0, 55 - (time.monotonic() - off)))
    finally:
        lab.vm_power_on(VM)
    expired = "openssl x509 -checkend 0 -noout -in /etc/certs/cert-chain.pem || true"
    assert "will expire" in on_vm(lab, VM, expired)
    assert on_vm(lab, VM, f"ls {TOKEN} 2>/dev/null || true") == "", "a reboot loses the token"
    time.sleep(10)
    assert not has_entry(kubectl, "10.77.0.22"), "it cannot come back by itself"

    plan = changes(stack.preview())
    assert {plan[f"{VM}-{step}"] for step in ("membership", "enrol", "confirm")} == {"update"}
    assert not {"billing-1-membership", "billing-1-enrol"} & set(plan), "the other one needs nothing"
    stack.up()
    secret = secret_of(kubectl)
    assert number(secret["name"]) == before + 1
    assert secret["annotations"][BECAUSE] in (RAN_OUT, BARE)
    assert stack.states() == {"billing-1": "healthy", VM: "healthy"}
    assert credential_changes(stack) == {}
