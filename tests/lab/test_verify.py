"""What `make verify` says of hosts outside of the cluster's domain: the sidecars' DNS knows them, or does not."""

from __future__ import annotations

import re

import pytest
from stack import Stack

from lab.runtime import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(420)]

LEGACY = {"namespace": "vm-apps", "ports": {"http": 80}, "selector": {"app": "billing"}}
HOST = "billing.mesh.internal"
OWN_DNS = ["iptables-legacy", "-t", "nat", "{}", "OUTPUT", "-p", "udp", "--dport", "53", "-j", "ACCEPT"]
"""Lets a VM's questions pass its sidecar."""


def verified(stack: Stack, code: int) -> dict[tuple[str, str], tuple[str, str]]:
    """Verdict and figures of the table, by check and subject."""
    done = stack.module("verify", timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    rows = [[*re.split(r" {2,}", line), ""] for line in done.stdout.splitlines()[:-1]]
    return {(check, subject): (verdict, figures) for verdict, check, subject, figures, *_ in rows}


def test_hosts_outside_of_the_cluster_are_resolved_by_a_pod_and_a_vm(stack: Stack, lab: Lab) -> None:
    stack.config["istio"]["mutualTls"] = "STRICT"
    stack.billing["service"]["host"] = HOST
    stack.config["services"] = {"legacy": {**LEGACY, "hosts": ["legacy.example.com"], "addresses": ["10.100.0.7"]}}
    stack.config["traffic"] = {HOST: {"timeout": "2s", "retries": {"attempts": 2, "perTryTimeout": "1s"}}}
    stack.up()
    seen = verified(stack, 0)
    for caller in ("pod", "billing-1"):
        assert seen["DNS capture", f"{caller} to legacy.example.com"] == ("ok", "10.100.0.7")
        assert seen["DNS capture", f"{caller} to {HOST}"][1].startswith("240.240.0.")
        for host in ("legacy.example.com", HOST):
            assert seen["host by DNS capture", f"{caller} to {host}"] == ("ok", "HTTP 200")
    assert seen["VM to VM", "billing-1 to billing"] == ("ok", "HTTP 200 from billing-1, billing-2")
    assert {seen[check, HOST][0] for check in ("timeout", "retries", "mTLS, pod to VM")} == {"ok"}

    # A host that the mesh does not have, and a VM whose sidecar is not asked.
    stack.config["services"]["late"] = {**LEGACY, "hosts": ["late.example.com"]}
    assert lab.vm_exec("billing-1", [part.format("-I") for part in OWN_DNS]).returncode == 0
    try:
        broken = verified(stack, 1)
    finally:
        lab.vm_exec("billing-1", [part.format("-D") for part in OWN_DNS])
    dns = {subject: row for (check, subject), row in broken.items() if check == "DNS capture"}
    hosts = ("legacy.example.com", "late.example.com", HOST)
    wrong = ["pod to late.example.com", *(f"billing-1 to {host}" for host in hosts)]
    assert {subject: row for subject, row in dns.items() if row[0] != "ok"} == dict.fromkeys(
        wrong, ("FAILED", "not resolved")
    )
    assert len(dns) == 6
