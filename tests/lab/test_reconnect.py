"""A sidecar that loses istiod while its VM changes registers again as it was; the same run heals that."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from stack import Kubectl, Stack, changes, ssh_argv

from registration.waves import CONFIGURATION

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(400)]

CUT = "ss -K dport = :15012 >/dev/null"
"""Ends the connections of a VM to istiod; its agent comes back by itself."""
KUBECTL = """\
#!/bin/sh
{kubectl} "$@"
status=$?
case "$*" in *" delete "*--field-selector=metadata.name=*) ;; *) exit $status ;; esac
entry=${{*##*metadata.name=}} entry=${{entry%% *}}
mkdir {folder}/$entry 2>/dev/null || exit $status
case $entry in
{cuts}
esac
until [ -s {folder}/$entry/label ]; do
  {kubectl} {where} get workloadentry $entry -o 'jsonpath={label}' >{folder}/$entry/label 2>/dev/null
done
exit $status
"""
"""Runs kubectl. Where that has deleted an entry for the first time, its VM loses istiod, and comes back to it."""


def entries(kubectl: Kubectl) -> dict[str, dict[str, Any]]:
    """The stack's WorkloadEntries by name."""
    items = json.loads(kubectl("get", "workloadentries", "-n", "vm-apps", "-o", "json"))["items"]
    return {item["metadata"]["name"]: item for item in items}


def cutting(stack: Stack, kubectl: Kubectl, folder: Path, addresses: Mapping[str, str]) -> Stack:
    """The stack, whose runs lose each VM's connection once the VM has left the mesh, and before its sidecar restarts.

    Args:
        stack: It.
        kubectl: On its cluster.
        folder: For what stands in for kubectl, and notes with which configuration each entry came back.
        addresses: The VMs' by entry.
    """
    path = stack.environment["PATH"]
    program = folder / "kubectl"
    cuts = (f"{entry}) {shlex.join(ssh_argv(address, [CUT]))} ;;" for entry, address in addresses.items())
    program.write_text(
        KUBECTL.format(
            kubectl=shutil.which("kubectl", path=path),
            folder=folder,
            cuts="\n".join(cuts),
            where=shlex.join([*kubectl.argv[1:], "-n", "vm-apps"]),
            label=f"{{.metadata.labels.{CONFIGURATION}}}",
        )
    )
    program.chmod(0o755)
    return dataclasses.replace(stack, environment={**stack.environment, "PATH": f"{folder}{os.pathsep}{path}"})


def test_a_vm_that_has_registered_again_as_it_was_takes_its_change_in_the_same_run(
    stack: Stack, kubectl: Kubectl, tmp_path: Path
) -> None:
    before = entries(kubectl)
    addresses = {name: item["spec"]["address"] for name, item in before.items()}
    cut = cutting(stack, kubectl, tmp_path, addresses)
    cut.billing["labels"]["version"] = "v2"
    cut.up()
    came_back = {name: (tmp_path / name / "label").read_text() for name in before}
    assert came_back == {name: item["metadata"]["labels"][CONFIGURATION] for name, item in before.items()}
    assert cut.states() == {"billing-1": "healthy", "billing-2": "healthy"}
    after = entries(kubectl)
    assert {name: item["spec"]["labels"]["version"] for name, item in after.items()} == dict.fromkeys(before, "v2")
    assert changes(cut.preview()) == {}
    assert cut.live() == {"billing-1": "healthy", "billing-2": "healthy"}
