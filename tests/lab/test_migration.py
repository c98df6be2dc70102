"""A service moves between VMs and pods, both ways, under load; a step for which the mesh does not speak is refused."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pods
import pytest
from stack import Kubectl, Stack, changes, eventually

from lab.runtime import Lab

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(900)]

HOST = "billing.vm-apps.svc.cluster.local"
VIRTUAL_SERVICE = f"{HOST}-virtual-service"
ASKED = f'traffic["{HOST}"].migration.at: '
PODS = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: billing, namespace: vm-apps}
spec:
  replicas: 2
  selector: {matchLabels: {app: billing, version: pods}}
  template:
    metadata: {labels: {app: billing, version: pods, sidecar.istio.io/inject: "true"}}
    spec:
      serviceAccountName: billing
      terminationGracePeriodSeconds: 1
      containers:
      - name: hello
        image: lab.local/hello:1
        imagePullPolicy: IfNotPresent
        env: [{name: VERSION, value: pods}]
        ports: [{containerPort: 8080}]
      # A pod is ready while all of its containers are: this one says when it no longer is, and hello goes on.
      - name: health
        image: lab.local/istio/proxyv2:dev
        imagePullPolicy: IfNotPresent
        command: [sleep, infinity]
        readinessProbe: {exec: {command: [test, "!", -e, /tmp/ill]}, periodSeconds: 1, failureThreshold: 1}
"""


BY_POD = {"vm-apps": {"injection": "byPod"}}


@pytest.fixture(scope="module")
def beside(dev_stack: Stack, kubectl: Kubectl) -> Iterator[list[str]]:
    """Names of two pods of the same service, in the VMs' namespace, and a meshed client elsewhere."""
    dev_stack.config["namespaces"] = BY_POD
    dev_stack.up()
    kubectl("apply", "-f", "-", stdin=PODS)
    kubectl("-n", "vm-apps", "rollout", "status", "deploy/billing", "--timeout=90s")
    found = kubectl("-n", "vm-apps", "get", "pods", "-l", "version=pods", "-o", "jsonpath={.items[*].metadata.name}")
    with pods.meshed_pod(kubectl):
        yield found.split()
    kubectl("delete", "-f", "-", "--wait=true", stdin=PODS)
    dev_stack.config.pop("namespaces", None)
    dev_stack.up()


@pytest.fixture
def moving(stack: Stack, beside: list[str]) -> Iterator[Stack]:
    """The stack at the beginning of a migration from VMs to pods, 50 at a step."""
    move(stack, "vm", "pods", 0)
    stack.up()
    yield stack
    stack.config.pop("traffic")
    stack.up()


def move(stack: Stack, source: str, target: str, at: int, **limits: Any) -> None:
    """Ask for a share in the stack file."""
    stack.config["namespaces"] = BY_POD
    stack.config["traffic"] = {
        HOST: {
            "subsets": {"vm": {"version": "v1"}, "pods": {"version": "pods"}},
            "podSubsets": ["pods"],
            "migration": {"from": source, "to": target, "at": at, "step": 50, **limits},
        }
    }


def refusal(stack: Stack) -> str:
    """Why preview and up refuse the stack, for the same reason, and without touching anything."""
    said = []
    for verb in ("preview", "up"):
        done = stack.run(verb)
        text = done.stdout + done.stderr
        assert done.returncode != 0, text
        assert "a migration's step is not taken, and nothing has been changed:" in text
        said += re.findall(r"^ *traffic\[.*\n?", text, re.MULTILINE)
    assert len(said) == 2, said
    assert said[0] == said[1]
    return said[0].strip().removeprefix(ASKED)


def routes(kubectl: Kubectl) -> dict[str, int]:
    """The weights that are in force."""
    found = json.loads(kubectl("-n", "vm-apps", "get", "virtualservice", HOST, "-o", "json"))
    return {route["destination"]["subset"]: route["weight"] for route in found["spec"]["http"][0]["route"]}


def subsets(kubectl: Kubectl) -> set[str]:
    """All subsets that any DestinationRule of the namespace has."""
    found = json.loads(kubectl("-n", "vm-apps", "get", "destinationrules", "-o", "json"))["items"]
    return {subset["name"] for rule in found for subset in rule["spec"]["subsets"]}


def ask(kubectl: Kubectl, count: int, path: str = "/") -> list[str]:
    """The first lines of so many answers to the client."""
    loop = f"for i in $(seq {count}); do curl -s --max-time 5 'http://{HOST}{path}' | head -1; echo; done"
    done = subprocess.run(
        [*pods.in_pod(kubectl), "bash", "-c", loop], capture_output=True, text=True, timeout=120, check=True
    )
    return [line for line in done.stdout.splitlines() if line]


@contextlib.contextmanager
def load(kubectl: Kubectl, log: Path) -> Iterator[Path]:
    """Requests one after the other for as long as it lasts; `log` gets the status of each."""
    loop = (
        f"rm -f /tmp/stop; while [ ! -e /tmp/stop ]; do"
        f" curl -s -o /dev/null --max-time 5 -w '%{{http_code}} %{{errormsg}}\\n' http://{HOST}/; sleep 0.1; done"
    )
    with log.open("w") as out, subprocess.Popen([*pods.in_pod(kubectl), "bash", "-c", loop], stdout=out) as run:
        try:
            yield log
        finally:
            subprocess.run([*pods.in_pod(kubectl), "touch", "/tmp/stop"], check=True, timeout=30)
            run.wait(timeout=30)


def answered(log: Path) -> int:
    return len(log.read_text().splitlines())


def until_judged(log: Path, count: int = 40) -> None:
    """Wait for enough requests to either side: that a side with a quarter of them got fewer than two is one in 7000."""
    before = answered(log)
    eventually(lambda: answered(log) > before + count, seconds=60, what=f"{count} requests")


def test_both_ways_under_load_without_a_failed_request(
    moving: Stack, beside: list[str], kubectl: Kubectl, tmp_path: Path
) -> None:
    with load(kubectl, tmp_path / "codes") as log:
        for at in (25, 50, 75, 100):
            move(moving, "vm", "pods", at, step=25, minRequests=2)
            moving.up()
            assert routes(kubectl) == {side: share for side, share in (("vm", 100 - at), ("pods", at)) if share}
            until_judged(log)
        assert subsets(kubectl) == {"pods"}
        assert changes(moving.preview()) == {}
        # And back, judged by the counters of the VMs.
        for at in (50, 100):
            move(moving, "pods", "vm", at, minRequests=2)
            moving.up()
            assert routes(kubectl) == {side: share for side, share in (("pods", 100 - at), ("vm", at)) if share}
            until_judged(log)
        assert subsets(kubectl) == {"vm"}
    failed = [line for line in log.read_text().splitlines() if not line.startswith("200 ")]
    assert failed == []
    assert answered(log) > 200
    assert {answer.split(",")[0] for answer in ask(kubectl, 10)} == {"Hello version: v1"}


def test_a_target_that_falls_ill_at_50_gets_no_more(
    moving: Stack, beside: list[str], kubectl: Kubectl, tmp_path: Path
) -> None:
    move(moving, "vm", "pods", 50, minHealthy=2)
    moving.up()
    ask(kubectl, 80)
    kubectl("-n", "vm-apps", "exec", beside[0], "-c", "health", "--", "touch", "/tmp/ill")
    kubectl("-n", "vm-apps", "wait", "--for=condition=Ready=False", f"pod/{beside[0]}", "--timeout=30s")
    move(moving, "vm", "pods", 100, minHealthy=2)
    assert refusal(moving) == (
        f"pods has 1 healthy endpoint, fewer than minHealthy, 2: pod {beside[0]} is not ready"
        " (got the number 100), 50 until that is mended, or less to go back"
    )
    assert routes(kubectl) == {"vm": 50, "pods": 50}

    with load(kubectl, tmp_path / "codes") as log:
        move(moving, "vm", "pods", 0, minHealthy=2)
        moving.up()
        until_judged(log, 20)
    assert routes(kubectl) == {"vm": 100}
    assert {line.split()[0] for line in log.read_text().splitlines()} == {"200"}
    kubectl("-n", "vm-apps", "exec", beside[0], "-c", "health", "--", "rm", "/tmp/ill")
    kubectl("-n", "vm-apps", "wait", "--for=condition=Ready", f"pod/{beside[0]}", "--timeout=30s")


def test_too_far_too_few_requests_too_many_errors(moving: Stack, kubectl: Kubectl) -> None:
    move(moving, "vm", "pods", 60)
    assert refusal(moving) == (
        "pods would go from 0 % to 60 %, by more than step, 50 (got the number 60), at most 50 now"
    )
    move(moving, "vm", "pods", 50)
    moving.up()
    move(moving, "vm", "pods", 51)
    right = "(got the number 51), 50 until that is mended, or less to go back"
    assert refusal(moving) == (
        f"the proxies of pods have counted 0 requests since it got 50 %, fewer than minRequests, 20 {right}"
    )
    # The application answers 502, where it cannot reach what it is to fetch.
    ask(kubectl, 80, "/fetch?u=http://127.0.0.1:1/")
    told = refusal(moving)
    match = re.fullmatch(
        r"(\d+) of (\d+) requests to pods failed since it got 50 %, 100 %, more than maxErrorRate, 1 % (.*)", told
    )
    assert match, told
    assert match[1] == match[2]
    assert match[3] == right
    move(moving, "vm", "pods", 51, maxErrorRate=100)
    assert changes(moving.preview()) == {VIRTUAL_SERVICE: "update"}


def test_a_proxy_that_cannot_be_asked_is_no_evidence(moving: Stack, lab: Lab, kubectl: Kubectl) -> None:
    move(moving, "vm", "pods", 50)
    moving.up()
    ask(kubectl, 60)
    lab.vm_exec("billing-1", ["systemctl", "stop", "ssh.socket", "ssh"])
    try:
        begin = time.monotonic()
        move(moving, "pods", "vm", 60)  # the other way round, so that the VMs must be asked
        told = refusal(moving)
        assert time.monotonic() - begin < 40
    finally:
        lab.vm_exec("billing-1", ["systemctl", "start", "ssh"])
    assert told == (
        "the counters of vm could not be read: vm billing-1: ssh to 10.77.0.21:22: connection refused"
        " (got the number 60), 50 until that is mended, or less to go back"
    )
