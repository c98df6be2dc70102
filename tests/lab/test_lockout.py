"""A start of the sidecar that goes wrong is taken back by the VM: nobody is locked out, and the error says so."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from stack import Kubectl, Stack, changes, committed_config, eventually, ssh_argv

from lab.runtime import Lab
from lab.spec import VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

VM = VmSpec(name="safety-1", address="10.77.0.60")
WITHIN = 20
WORKLOAD: dict[str, Any] = {
    "namespace": "vm-safety",
    "serviceAccount": "safety",
    "labels": {"app": "safety", "version": "v1"},
    "ports": {"http": 8080},
    "probe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 2},
    "service": {"ports": {"http": 80}},
    "vms": {VM.name: {"address": VM.address}},
}
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: safety, namespace: vm-safety}
spec: {mtls: {mode: STRICT}}
"""
BROKEN = """
folder=/etc/systemd/system/istio.service.d
mkdir -p $folder
printf '[Service]\\nEnvironment=ISTIO_CLUSTER_CONFIG=/root/broken.env\\n' >$folder/broken.conf
printf '. /var/lib/istio/envoy/cluster.env\\n%s\\n' '{}' >/root/broken.env
systemctl daemon-reload
"""
"""What somebody might do on a VM: a setting of their own over the sidecar's."""
FORWARDER = """
import socket, threading
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
def answer(question, client):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
        upstream.settimeout(4)
        upstream.sendto(question, ("10.77.0.5", 53))
        try:
            server.sendto(upstream.recv(4096), client)
        except TimeoutError:
            pass
lock = threading.Semaphore(50)
while True:
    packet = server.recvfrom(4096)
    threading.Thread(target=answer, args=packet, daemon=True).start()
"""


@pytest.fixture
def victim(stack: Stack, lab: Lab, kubectl: Kubectl) -> Iterator[Stack]:
    """The dev stack with a fresh VM that it is to join, and little time to confirm a start."""
    lab.add_vm(VM)
    stack.config["workloads"]["safety"] = json.loads(json.dumps(WORKLOAD))
    stack.config["hosts"]["confirmWithin"] = WITHIN
    yield stack
    stack.config = committed_config()
    try:
        stack.up()
    finally:
        kubectl("delete", "namespace", "vm-safety", "--ignore-not-found")
        lab.remove_vm(VM.name)


def on_vm(lab: Lab, script: str) -> str:
    done = lab.vm_exec(VM.name, ["sh", "-c", script], timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def as_seen(lab: Lab) -> dict[str, str]:
    """What a start of the sidecar changes on a VM, as far as others notice."""
    saved = "for tool in iptables iptables-legacy ip6tables ip6tables-legacy; do $tool-save 2>/dev/null; done"
    rules = re.sub(r"^[:#*].*\n|^COMMIT\n| \[\d+:\d+\]", "", on_vm(lab, saved), flags=re.MULTILINE)
    return {
        "rules": rules,
        "hosts": on_vm(lab, "cat /etc/hosts"),
        "sidecar": on_vm(lab, "systemctl is-active istio; systemctl is-enabled istio 2>/dev/null; true"),
    }


def told(done: subprocess.CompletedProcess[str], code: str) -> dict[str, Any]:
    """What a failed run tells of the VM, by a code."""
    assert done.returncode != 0, done.stdout + done.stderr
    for line in (done.stdout + done.stderr).splitlines():
        begin = line.find('{"vm":"safety-1"')
        if begin >= 0:
            report = json.loads(line[begin : line.rindex("}") + 1])
            for problem in (report, *report.get("more", [])):
                if problem["code"] == code:
                    found: dict[str, Any] = problem
                    return found
    raise AssertionError(f"nothing told of {code}:\n{done.stdout}{done.stderr}")


def logs_in() -> bool:
    try:
        done = subprocess.run(ssh_argv(VM.address, ["true"]), capture_output=True, text=True, timeout=8)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def test_a_wrong_inbound_rule_locks_nobody_out(victim: Stack, lab: Lab, kubectl: Kubectl) -> None:
    before = as_seen(lab)
    assert before["rules"] == ""
    on_vm(lab, BROKEN.format("ISTIO_INBOUND_PORTS=22,8080"))
    with victim.started("up") as run:
        eventually(lambda: namespace_there(kubectl), seconds=60, what="the namespace is there")
        kubectl("apply", "-f", "-", stdin=STRICT)
        eventually(lambda: "dport 22" in as_seen(lab)["rules"], seconds=60, what="ssh is redirected", every=0.2)
        locked = time.monotonic()
        eventually(lambda: not logs_in(), seconds=WITHIN - 3, what="nobody can log in")
        eventually(logs_in, seconds=WITHIN + 10, what="one can log in again")
        assert time.monotonic() - locked < WITHIN + 5
        stdout, _ = run.communicate(timeout=120)
    done = subprocess.CompletedProcess("up", run.returncode, stdout, "")
    problem = told(done, "taken-back")
    assert problem["fact"] == (
        f"nobody confirmed it over a new ssh connection within {WITHIN} s: redirection, DNS capture and the block in "
        "/etc/hosts were taken back; the sidecar was stopped and disabled"
    )
    assert as_seen(lab) == {**before, "sidecar": "inactive\ndisabled\n"}
    assert victim.states()[VM.name] == "failed"

    # Whatever was wrong is put right: the next run sees what was taken back, and enrols the VM.
    on_vm(lab, "rm /etc/systemd/system/istio.service.d/broken.conf; systemctl daemon-reload")
    assert changes(victim.preview())[f"{VM.name}-enrol"] == "update"
    victim.up()
    assert victim.states()[VM.name] == "healthy"
    assert changes(victim.preview()) == {}


def namespace_there(kubectl: Kubectl) -> bool:
    found = kubectl("get", "namespace", "vm-safety", "--ignore-not-found", "-o", "jsonpath={.status.phase}")
    return found == "Active"


@contextmanager
def forwarder(lab: Lab) -> Iterator[None]:
    """A DNS server on the VM that asks another one, as dnsmasq would."""
    process = subprocess.Popen(["nsenter", f"--net=/run/netns/{VM.namespace}", sys.executable, "-c", FORWARDER])
    try:
        on_vm(lab, "echo nameserver 127.0.0.1 >/etc/resolv.conf")
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.long
def test_a_loop_of_dns_capture_is_taken_back(victim: Stack, lab: Lab) -> None:
    with forwarder(lab):
        before = as_seen(lab)
        answers = "timeout 3 getent hosts nobody.example.com; [ $? = 2 ] && echo answered"
        assert on_vm(lab, answers) == "answered\n"
        on_vm(lab, BROKEN.format("CAPTURE_ALL_DNS=true"))
        done = victim.run("up")
        assert told(done, "dns-broken")["fact"] == (
            "the resolver answered before the sidecar started, and does not answer now"
        )
        assert told(done, "taken-back")["fact"].startswith(
            f"not ready after {WITHIN // 2} s: redirection, DNS capture "
        )
        assert as_seen(lab) == {**before, "sidecar": "inactive\ndisabled\n"}
        assert on_vm(lab, answers) == "answered\n"
        on_vm(lab, "rm /etc/systemd/system/istio.service.d/broken.conf; systemctl daemon-reload")
        victim.up()
        assert victim.states()[VM.name] == "healthy"


def serves(kubectl: Kubectl) -> bool:
    path = 'jsonpath={.items[*].status.conditions[?(@.type=="Healthy")].status}'
    return kubectl("get", "workloadentries", "-n", "vm-safety", "-o", path) == "True"


@pytest.mark.long
def test_an_envoy_that_never_starts_is_taken_back_and_a_change_to_one_goes_back(
    victim: Stack, lab: Lab, kubectl: Kubectl
) -> None:
    # Time enough for a sidecar that does start, on a machine that has much to do.
    victim.config["hosts"]["confirmWithin"] = 60
    workload, before = victim.config["workloads"]["safety"], as_seen(lab)
    workload["annotations"] = {"proxy.istio.io/config": json.dumps({"binaryPath": "/bin/false"})}
    done = victim.run("up")
    assert "the sidecar was stopped and disabled" in told(done, "taken-back")["fact"]
    assert as_seen(lab) == {**before, "sidecar": "inactive\ndisabled\n"}
    del workload["annotations"]
    victim.up()
    assert victim.states()[VM.name] == "healthy"

    confirmed = as_seen(lab)
    assert "ISTIO_" in confirmed["rules"]
    workload["annotations"] = {"proxy.istio.io/config": json.dumps({"binaryPath": "/bin/false"})}
    done = victim.run("up")
    assert told(done, "taken-back")["fact"].endswith(
        "the configuration before, with its block in /etc/hosts, was restored; the sidecar runs with it again"
    )
    assert as_seen(lab) == confirmed
    eventually(lambda: serves(kubectl), seconds=30, what="it serves as before")
    assert victim.live()[VM.name] == "drifted", "what it is to become was taken back"
    del workload["annotations"]
    victim.up()
    assert victim.states()[VM.name] == "healthy"
    assert changes(victim.preview()) == {}


@pytest.mark.long
def test_a_start_that_nobody_confirmed_is_taken_back_after_a_reboot_too(victim: Stack, lab: Lab) -> None:
    victim.config["hosts"]["confirmWithin"] = 60
    with victim.started("up"):
        eventually(lambda: "ISTIO_" in as_seen(lab)["rules"], seconds=60, what="the sidecar starts", every=0.1)
    # The run is lost, and the VM loses its power before anybody has confirmed the start.
    lab.vm_power_off(VM.name)
    lab.vm_power_on(VM.name)
    timers = "systemctl list-timers --no-legend | grep istio-vm-mesh-takeback || true"
    eventually(lambda: "takeback" in on_vm(lab, timers), seconds=20, what="the timer runs again")
    eventually(lambda: as_seen(lab)["sidecar"] == "inactive\ndisabled\n", seconds=90, what="the start is taken back")
    assert as_seen(lab)["rules"] == ""
    assert "istio" not in as_seen(lab)["hosts"]
    victim.up()
    assert victim.states()[VM.name] == "healthy"
    assert changes(victim.preview()) == {}
