"""A VM leaves without a trace, out of service before its sidecar stops; a dead one with a word about its traces."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from stack import Kubectl, Stack, changes, committed_config, eventually, ssh_argv

from lab.runtime import Lab
from lab.spec import VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(400)]

VM = VmSpec(name="safety-2", address="10.77.0.61")
RENAMED = "safety-3"
SNAPSHOT = r"""
cd / && find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./var/log -o -path ./tmp \) -prune -o \
  -printf '%p %y %m %u:%g %l\n' | sort
find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./var/log -o -path ./tmp \) -prune -o \
  -type f -exec sha256sum {} + | sort -k 2
find /run -name '*istio*' -o -path /run/secrets
for tool in iptables iptables-legacy ip6tables ip6tables-legacy; do
  $tool-save 2>/dev/null | grep -vE '^[:#*]|^COMMIT'
done
ip rule; ip route show table all | grep -v fe80: | sort
systemctl list-unit-files --no-legend; systemctl list-units --all --no-legend --plain '*istio*'
pgrep -a 'envoy|pilot-agent'
true
"""
KEPT_BY_THE_SYSTEM = re.compile(
    r"\./etc/(passwd|group|shadow|gshadow)-( |$)"  # what the user database was before its last change
    r"|\./var/lib/dpkg/(status|status-old|diversions-old|statoverride-old|lock|triggers/Lock)( |$)"
    r"|\./var/lib/(systemd|private)(/| )|\./var/cache/|\./var/tmp/systemd-private-|\./run( |/)"
)
"""Files that Debian's own tools write whatever they are used for; that the package is gone from them is held below."""


@pytest.fixture
def leaver(stack: Stack, lab: Lab) -> Iterator[Stack]:
    """The dev stack, and a fresh VM that is not in it yet."""
    lab.add_vm(VM)
    yield stack
    stack.config = committed_config()
    stack.up()
    lab.remove_vm(VM.name)


def on_vm(lab: Lab, script: str) -> str:
    done = lab.vm_exec(VM.name, ["sh", "-c", script], timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def snapshot(lab: Lab) -> list[str]:
    return [line for line in on_vm(lab, SNAPSHOT).splitlines() if not KEPT_BY_THE_SYSTEM.search(line)]


def difference(before: list[str], after: list[str]) -> list[str]:
    gone, new = set(before) - set(after), set(after) - set(before)
    return sorted([f"- {line}" for line in gone] + [f"+ {line}" for line in new])


def entry(kubectl: Kubectl) -> dict[str, Any] | None:
    items = json.loads(kubectl("get", "workloadentries", "-n", "vm-apps", "-o", "json"))["items"]
    return next((item for item in items if item["spec"]["address"] == VM.address), None)


def healthy(item: dict[str, Any] | None) -> str:
    conditions = (item or {}).get("status", {}).get("conditions", [])
    return next((condition["status"] for condition in conditions if condition["type"] == "Healthy"), "")


def join(stack: Stack, **settings: Any) -> None:
    stack.billing["vms"][VM.name] = {"address": VM.address, **settings}
    stack.up()
    assert stack.states()[VM.name] == "healthy"


@contextmanager
def switched_on(lab: Lab) -> Iterator[None]:
    """The VM boots, and can be logged in to; its application is cut off as long as its sidecar may not register."""
    booting = threading.Thread(target=lab.vm_power_on, args=(VM.name,))
    booting.start()
    try:
        eventually(
            lambda: subprocess.run(ssh_argv(VM.address, ["true"])).returncode == 0, seconds=30, what="ssh answers"
        )
        yield
    finally:
        booting.join()


def secrets(kubectl: Kubectl, name: str = VM.name) -> str:
    return kubectl("get", "secrets", "-n", "vm-apps", "-l", f"istio-vm-mesh/vm={name}", "-o", "name")


def test_a_vm_leaves_out_of_service_first_and_then_without_a_trace(leaver: Stack, lab: Lab, kubectl: Kubectl) -> None:
    # Things that were somebody's before the VM joined, among them a file that joining writes too.
    on_vm(
        lab,
        "mkdir -m 751 /etc/certs; umask 027; echo theirs >/etc/certs/root-cert.pem; printf '10.9.9.9 x' >>/etc/hosts",
    )
    on_vm(lab, "iptables -A INPUT -s 192.0.2.1 -j DROP; chown daemon:games /etc/certs/root-cert.pem")
    before = snapshot(lab)
    join(leaver)
    assert len(difference(before, snapshot(lab))) > 30, "joining leaves traces, or this test sees nothing"

    del leaver.billing["vms"][VM.name]
    seen: list[tuple[str, str]] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            unit = lab.vm_exec(VM.name, ["systemctl", "is-active", "istio"]).stdout.strip()
            seen.append((healthy(entry(kubectl)), unit))
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        leaver.up()
    finally:
        over.set()
        watcher.join()
    # Out of the mesh while its sidecar still serves who has not heard of that yet.
    assert ("", "active") in seen, seen
    assert seen.index(("", "active")) < min(i for i, (_, unit) in enumerate(seen) if unit != "active")
    assert entry(kubectl) is None
    assert secrets(kubectl) == ""
    assert difference(before, snapshot(lab)) == []
    assert on_vm(lab, "dpkg-query -W istio-sidecar 2>/dev/null; grep -c istio /var/lib/dpkg/status || true") == "0\n"
    assert on_vm(lab, "stat -c '%U:%G %a' /etc/certs/root-cert.pem") == "daemon:games 640\n"


@pytest.mark.parametrize(
    "settings", [{}, {"labels": {"version": "v9"}}, {"removeUnreachable": True}], ids=["name", "label", "unreachable"]
)
def test_a_vm_that_serves_takes_another_name_in_one_run(
    leaver: Stack, lab: Lab, kubectl: Kubectl, settings: dict[str, Any]
) -> None:
    before = snapshot(lab)
    join(leaver, **({} if "labels" in settings else settings))
    there, started = entry(kubectl), on_vm(lab, "systemctl show istio -p ActiveEnterTimestamp")
    assert there is not None
    del leaver.billing["vms"][VM.name]
    leaver.billing["vms"][RENAMED] = {"address": VM.address, **settings}
    plan = leaver.preview()
    planned = changes(plan)
    assert f"its machine is in the mesh as {VM.name}, which leaves" in json.dumps(plan)
    of_vms = {(name[: len(VM.name)], op) for name, op in planned.items() if not name.startswith("billing-guard")}
    assert of_vms == {(VM.name, "delete"), (RENAMED, "create")}

    leaver.up()
    states = leaver.states()
    assert states[RENAMED] == "healthy"
    assert VM.name not in states
    time.sleep(12)  # What istiod takes to delete the entry of a VM that has gone.
    found = entry(kubectl)
    assert found is not None
    assert healthy(found) == "True"
    assert found["spec"]["labels"]["version"] == ("v9" if "labels" in settings else "v1")
    if "labels" not in settings:
        assert found["metadata"]["uid"] == there["metadata"]["uid"], "it never left the mesh"
        assert on_vm(lab, "systemctl show istio -p ActiveEnterTimestamp") == started
    assert secrets(kubectl) == ""
    assert secrets(kubectl, RENAMED) == f"secret/istio-vm-{RENAMED}\n"
    assert changes(leaver.preview()) == {}

    del leaver.billing["vms"][RENAMED]
    leaver.up()
    assert entry(kubectl) is None
    assert difference(before, snapshot(lab)) == []


def test_a_dead_vm_leaves_where_that_is_allowed_and_takes_its_credential_with_it(
    leaver: Stack, lab: Lab, kubectl: Kubectl
) -> None:
    join(leaver)
    lab.vm_power_off(VM.name)
    # Allowed while the VM is dead already: that takes no connection to it.
    leaver.billing["vms"][VM.name] = {"address": VM.address, "removeUnreachable": True}
    assert changes(leaver.preview()) == {f"{VM.name}-membership": "update"}
    leaver.up()
    del leaver.billing["vms"][VM.name]
    said = leaver.up()
    assert f"warning: VM {VM.name} is unreachable and was given up" in said
    assert VM.name not in leaver.states()
    assert entry(kubectl) is None
    assert secrets(kubectl) == ""
    assert changes(leaver.preview()) == {}

    # It comes back: the warning said what is on it, and how that goes.
    (command,) = set(re.findall(r"removes them there: (.*)$", said, flags=re.MULTILINE))
    with switched_on(lab):
        assert on_vm(lab, "ls -d /usr/local/lib/istio-vm-mesh /var/lib/istio /etc/certs | wc -l") == "3\n"
        done = subprocess.run(ssh_argv(VM.address, [command]), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
    assert on_vm(lab, "ls -d /usr/local/lib/istio-vm-mesh /var/lib/istio /etc/certs 2>/dev/null; true") == ""


def test_a_dead_vm_that_may_not_leave_is_named_and_leaves_when_it_is_back(
    leaver: Stack, lab: Lab, kubectl: Kubectl
) -> None:
    before = snapshot(lab)
    join(leaver)
    lab.vm_power_off(VM.name)
    del leaver.billing["vms"][VM.name]
    refused = leaver.run("up")
    assert refused.returncode != 0
    assert f"error: VM {VM.name} has not left: nothing answers at {VM.address}. " in refused.stdout + refused.stderr
    assert secrets(kubectl) != "", "what is still to be done on the VM is not forgotten"
    with switched_on(lab):
        leaver.up()
    assert secrets(kubectl) == ""
    assert difference(before, snapshot(lab)) == []


def test_a_vm_that_answers_leaves_cleanly_although_it_need_not(leaver: Stack, lab: Lab, kubectl: Kubectl) -> None:
    before = snapshot(lab)
    join(leaver, removeUnreachable=True)
    del leaver.billing["vms"][VM.name]
    assert "unreachable" not in leaver.up()
    assert entry(kubectl) is None
    assert difference(before, snapshot(lab)) == []


def test_a_machine_with_another_host_key_is_no_dead_vm(leaver: Stack, lab: Lab, kubectl: Kubectl) -> None:
    before = snapshot(lab)
    join(leaver, removeUnreachable=True)
    there, bound = entry(kubectl), secrets(kubectl)
    assert there is not None
    key = "/etc/ssh/ssh_host_ed25519_key"
    new = f"mkdir /root/old && mv {key}* /root/old && ssh-keygen -q -t ed25519 -N '' -f {key} && systemctl restart ssh"
    on_vm(lab, new)
    del leaver.billing["vms"][VM.name]
    refused = leaver.run("up")
    assert refused.returncode != 0
    told = refused.stdout + refused.stderr
    assert "Host key verification failed." in told
    assert (
        f"error: VM {VM.name} has not left: at {VM.address} answers a machine whose host key is not the stack's. "
        "If it is the VM, put it back into the stack with its new hostKey, run up, and take it out again. "
        "If the VM is gone and another machine has its address, take "
        f"{VM.name}-membership out of the state (pulumi state delete) and run again. "
        "Its WorkloadEntry and its token are left alone."
    ) in told
    found = entry(kubectl)
    assert found is not None
    assert (found["metadata"]["uid"], healthy(found)) == (there["metadata"]["uid"], "True")
    assert secrets(kubectl) == bound
    assert on_vm(lab, "systemctl is-active istio") == "active\n"

    # As the error says: back with its new key, and out again.
    join(leaver, removeUnreachable=True, hostKey=" ".join(on_vm(lab, f"cat {key}.pub").split()[:2]))
    del leaver.billing["vms"][VM.name]
    assert "unreachable" not in leaver.up()
    assert (entry(kubectl), secrets(kubectl)) == (None, "")
    on_vm(lab, f"mv /root/old/* /etc/ssh/ && rmdir /root/old && systemctl restart ssh; rm -f {key}.pub.old")
    assert difference(before, snapshot(lab)) == []


def test_the_whole_stack_goes_with_a_dead_vm_in_it(leaver: Stack, lab: Lab, kubectl: Kubectl) -> None:
    leaver.config["hosts"]["removeUnreachable"] = True
    join(leaver)
    lab.vm_power_off(VM.name)
    destroyed = leaver.run("destroy")
    assert destroyed.returncode == 0, destroyed.stdout + destroyed.stderr
    assert f"warning: VM {VM.name} is unreachable and was given up" in destroyed.stdout + destroyed.stderr
    assert leaver.run("preview").returncode == 0
    eventually(
        lambda: kubectl("get", "namespace", "vm-apps", "--ignore-not-found") == "",
        seconds=60,
        what="the namespace goes",
    )
    for vm in ("billing-1", "billing-2"):
        assert lab.vm_exec(vm, ["sh", "-c", "ls -d /var/lib/istio /usr/local/lib/istio-vm-mesh"]).stdout == ""
