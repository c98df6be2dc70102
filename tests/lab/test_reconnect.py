"""A sidecar that loses istiod while its VM changes registers again as it was; the same run heals that."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from stack import Kubectl, Stack, changes, eventually, ssh_argv

from registration.waves import CONFIGURATION

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(400)]

CUT = "ss -K dport = :15012 >/dev/null"
"""Ends the connections of a VM to istiod; its agent comes back by itself."""


def entries(kubectl: Kubectl) -> dict[str, dict[str, Any]]:
    """The stack's WorkloadEntries by name."""
    items = json.loads(kubectl("get", "workloadentries", "-n", "vm-apps", "-o", "json"))["items"]
    return {item["metadata"]["name"]: item for item in items}


def label(entry: dict[str, Any]) -> str:
    """With which configuration a VM has registered."""
    return str(entry["metadata"]["labels"][CONFIGURATION])


def family(process: int) -> list[int]:
    """A process and all that it has started."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = [process]
    for one in found:
        found += children.get(one, [])
    return found


@contextmanager
def held(run: subprocess.Popen[str]) -> Iterator[None]:
    """Hold a run meanwhile, with all of its processes."""
    processes = family(run.pid)
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


def test_a_vm_that_has_registered_again_as_it_was_takes_its_change_in_the_same_run(
    stack: Stack, kubectl: Kubectl
) -> None:
    before = entries(kubectl)
    came_back: dict[str, str] = {}
    stack.billing["labels"]["version"] = "v2"
    with stack.started("up") as run:
        while len(came_back) < len(before):
            assert run.poll() is None, run.communicate()[0]
            for name in sorted(before.keys() - entries(kubectl).keys() - came_back.keys()):
                # The VM has left the mesh, and its sidecar is to restart in two seconds.
                with held(run):
                    subprocess.run(ssh_argv(before[name]["spec"]["address"], [CUT]), check=True)
                    eventually(lambda name=name: name in entries(kubectl), seconds=60, what=f"{name} is back")
                    came_back[name] = label(entries(kubectl)[name])
        text = run.communicate(timeout=200)[0]
    assert run.returncode == 0, text
    assert came_back == {name: label(item) for name, item in before.items()}
    assert stack.states() == {"billing-1": "healthy", "billing-2": "healthy"}
    after = entries(kubectl)
    assert {name: item["spec"]["labels"]["version"] for name, item in after.items()} == dict.fromkeys(before, "v2")
    assert changes(stack.preview()) == {}
    assert stack.live() == {"billing-1": "healthy", "billing-2": "healthy"}
