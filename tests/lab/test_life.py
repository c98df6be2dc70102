"""What the dev stack promises: joined, unchanged, edited, watched, removed; each time read where a user would."""

from __future__ import annotations

import difflib
import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from stack import Kubectl, Stack, changes, eventually, ssh_argv

from lab.runtime import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


def entries(kubectl: Kubectl) -> dict[str, dict[str, Any]]:
    """WorkloadEntries by address."""
    items = json.loads(kubectl("get", "workloadentries", "-A", "-o", "json"))["items"]
    return {item["spec"]["address"]: item for item in items}


def on_vm(address: str, script: str) -> str:
    """Run a script on a VM and return what it printed; a failure fails the test."""
    done = subprocess.run(ssh_argv(address, ["sh", "-s"]), input=script, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def healthy(entry: dict[str, Any]) -> bool:
    conditions = entry.get("status", {}).get("conditions", [])
    return any(item["type"] == "Healthy" and item["status"] == "True" for item in conditions)


def test_both_vms_are_healthy_and_the_cluster_agrees(joined: Stack, kubectl: Kubectl) -> None:
    assert joined.states() == {"billing-1": "healthy", "billing-2": "healthy"}
    found = entries(kubectl)
    assert set(found) == {"10.77.0.21", "10.77.0.22"}
    assert all(healthy(entry) for entry in found.values())


def test_a_second_up_changes_nothing_and_opens_no_ssh_connection_unless_hosts_are_observed(
    stack: Stack, lab: Lab
) -> None:
    def sessions() -> list[int]:
        count = "journalctl -u ssh --no-pager -o cat | grep -c Accepted || true"
        return [int(lab.vm_exec(vm, ["sh", "-c", count]).stdout.strip()) for vm in ("billing-1", "billing-2")]

    observed = sessions()
    assert changes(stack.preview()) == {}
    assert all(now > then for now, then in zip(sessions(), observed, strict=True))
    stack.config["hosts"]["observe"] = False
    stack.up()
    before, outputs = sessions(), stack.outputs()
    assert min(before) > 0, "the VMs' logs must show the first run's sessions, or this test sees nothing"
    stack.up()
    assert changes(stack.preview()) == {}
    assert stack.live() == {"billing-1": "healthy", "billing-2": "healthy"}
    assert sessions() == before
    assert stack.outputs() == outputs


@pytest.mark.parametrize(
    ("edit", "files"),
    [
        (lambda w: w["labels"].update(version="v2"), {"cluster.env: ", "mesh: "}),
        (lambda w: w["ports"].update(admin=9090), {"cluster.env: ", "mesh: "}),
        # cluster.env too: the VM registers with a name for its whole configuration.
        (lambda w: w["probe"]["httpGet"].update(path="/"), {"cluster.env: ", "mesh: "}),
    ],
    ids=["label", "port", "probe"],
)
def test_an_edit_shows_its_lines_and_changes_just_that(
    stack: Stack, kubectl: Kubectl, edit: Callable[[dict[str, Any]], None], files: set[str]
) -> None:
    before = entries(kubectl)
    edit(stack.billing)
    plan = stack.preview()
    for vm in ("billing-1", "billing-2"):
        (step,) = [step for step in plan["steps"] if step["urn"].endswith(f"::{vm}-configure")]
        old, new = (step[side]["inputs"]["stdin"].splitlines() for side in ("oldState", "newState"))
        removed = [line[2:] for line in difflib.ndiff(old, new) if line.startswith("- ")]
        added = [line[2:] for line in difflib.ndiff(old, new) if line.startswith("+ ")]
        assert added, plan
        for line in removed + added:
            # Two digests by which the VM sees what to do.
            assert any(line.startswith(file) for file in files) or line.startswith(("digest: ", "restart: ")), line
        assert all(any(line.startswith(file) for line in added) for file in files)
    ops = changes(plan)
    assert ops.pop("billing-group") == "update"
    for part in ("entries", "confirmed-patch"):
        ops.pop(f"billing-guard-{part}", None)
    per_vm = {f"{vm}-{role}" for vm in ("billing-1", "billing-2") for role in ("configure", "enrol", "confirm")}
    assert ops == dict.fromkeys(per_vm, "update")

    stack.up()
    assert stack.states() == {"billing-1": "healthy", "billing-2": "healthy"}
    after = entries(kubectl)
    for address in ("10.77.0.21", "10.77.0.22"):
        labels = after[address]["spec"]["labels"]
        assert labels["version"] == stack.billing["labels"]["version"]
        assert set(after[address]["spec"]["ports"]) == set(stack.billing["ports"])
        assert after[address]["metadata"]["uid"] != before[address]["metadata"]["uid"], "it registered anew"
    assert changes(stack.preview()) == {}


def test_removing_a_vm_leaves_no_trace_and_the_other_alone(stack: Stack, lab: Lab, kubectl: Kubectl) -> None:
    def since_start() -> str:
        return lab.vm_exec("billing-1", ["systemctl", "show", "istio", "-p", "ActiveEnterTimestamp"]).stdout

    untouched, kept = since_start(), entries(kubectl)["10.77.0.21"]["metadata"]["uid"]
    gone = stack.billing["vms"].pop("billing-2")
    assert {op for name, op in changes(stack.preview()).items() if name.startswith("billing-2")} == {"delete"}
    stack.up()
    assert set(entries(kubectl)) == {"10.77.0.21"}
    assert stack.states() == {"billing-1": "healthy"}
    assert entries(kubectl)["10.77.0.21"]["metadata"]["uid"] == kept
    assert since_start() == untouched
    # What joining adds to a host: each line of this list is empty on a clean one.
    residue = on_vm(gone["address"], RESIDUE)
    assert residue == ""

    stack.billing["vms"]["billing-2"] = gone
    stack.up()
    assert stack.states() == {"billing-1": "healthy", "billing-2": "healthy"}


RESIDUE = r"""
ls -d /etc/istio /var/lib/istio /var/log/istio /etc/certs /var/run/secrets /usr/local/bin/pilot-agent \
  /usr/local/bin/envoy \
  /usr/local/bin/istio-start.sh /lib/systemd/system/istio.service /usr/local/lib/istio-vm-mesh /var/lib/istio-vm-mesh \
  /etc/systemd/system/istio.service.d /etc/systemd/system/multi-user.target.wants/istio.service 2>/dev/null
getent passwd istio-proxy; getent group istio-proxy
grep -n istio /etc/hosts /etc/passwd /etc/group /etc/shadow /etc/gshadow
dpkg-query -W -f '${Package} ${Status}\n' istio-sidecar 2>/dev/null
for table in filter nat mangle raw; do iptables -t $table -S | grep -vE '^-P [A-Z]+ ACCEPT$'; done
pgrep -a 'envoy|pilot-agent'
find / -xdev -user 998 -o -xdev -nouser 2>/dev/null | grep -v '^/proc' | head
true
"""


def test_status_follows_a_stopped_application_within_15_seconds_and_back(joined: Stack, lab: Lab) -> None:
    lab.vm_exec("billing-1", ["systemctl", "stop", "hello"])
    try:
        eventually(lambda: joined.live()["billing-1"] == "registered", seconds=15, what="the failing probe shows")
        assert joined.live()["billing-2"] == "healthy"
    finally:
        lab.vm_exec("billing-1", ["systemctl", "start", "hello"])
    eventually(lambda: joined.live()["billing-1"] == "healthy", seconds=15, what="the VM is healthy again")


def test_status_follows_a_powered_off_vm_within_60_seconds_and_back(joined: Stack, lab: Lab) -> None:
    lab.vm_power_off("billing-2")
    try:
        eventually(lambda: joined.live()["billing-2"] == "unreachable", seconds=60, what="the dead VM shows")
        assert joined.live()["billing-1"] == "healthy"
    finally:
        lab.vm_power_on("billing-2")
    eventually(lambda: joined.live()["billing-2"] == "healthy", seconds=60, what="the VM is back by itself")
