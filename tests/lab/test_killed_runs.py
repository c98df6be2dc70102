"""A run that is killed at any moment loses nothing: the next one goes on, and nothing is made twice."""

from __future__ import annotations

import json
import random
import re
import subprocess
from contextlib import suppress

import pytest
from stack import Kubectl, Stack, changes, committed_config

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

SEED = 20261121
KILLS = 10


def objects(kubectl: Kubectl) -> list[str]:
    """Every object that the stack could have made twice, without generated names."""
    kinds = (
        "namespaces,services,serviceaccounts,deployments,workloadgroups,gateways.networking.istio.io,virtualservices"
    )
    kinds += ",secrets,validatingwebhookconfigurations,mutatingwebhookconfigurations"
    items = json.loads(kubectl("get", kinds, "-A", "-o", "json"))["items"]
    names = (f"{item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}" for item in items)
    # A VM's Secret bears the number of its token, which other tests have renewed.
    return sorted(re.sub(r"\.\d+$", "", name) for name in names if "/sh.helm.release" not in name)


def test_ten_killed_runs_then_one_more_end_in_the_same_state(stack: Stack, kubectl: Kubectl) -> None:
    expected, outputs = objects(kubectl), stack.outputs()
    destroyed = stack.run("destroy")
    assert destroyed.returncode == 0, destroyed.stdout + destroyed.stderr
    moments = random.Random(SEED)
    finished = 0
    for round_ in range(KILLS):
        # A label that is new each time: there is work left even when what was destroyed is there again.
        stack.billing["labels"]["version"] = f"killed-{round_}"
        with stack.started("up") as run, suppress(subprocess.TimeoutExpired):
            run.communicate(timeout=moments.uniform(0.5, 6.0))
            finished += 1
    assert finished < KILLS // 2, "most runs must have been killed before their end"
    stack.config = committed_config()
    stack.up()
    assert changes(stack.preview()) == {}
    assert objects(kubectl) == expected
    entries = json.loads(kubectl("get", "workloadentries", "-A", "-o", "json"))["items"]
    assert sorted(entry["spec"]["address"] for entry in entries) == ["10.77.0.21", "10.77.0.22"]
    assert {entry["spec"]["labels"]["version"] for entry in entries} == {"v1"}
    after = stack.outputs()
    assert stack.states() == {"billing-1": "healthy", "billing-2": "healthy"}
    assert after["workloads"] == outputs["workloads"]
