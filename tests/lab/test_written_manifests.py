"""`make manifests` for the lab's stack: its files are what the cluster has, and their diff is the change."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from stack import PROJECT, Kubectl, Stack

pytestmark = pytest.mark.lab


def write(stack: Stack, folder: Path) -> str:
    stack.write()
    done = subprocess.run(
        [sys.executable, "-m", "manifests", "--stack-file", str(stack.file), "--folder", str(folder)],
        cwd=PROJECT,
        env=dict(stack.environment),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def cluster_diff(kubectl: Kubectl, folder: Path) -> tuple[int, str]:
    """What kubectl says would change on the cluster if the folder was applied, in words of `diff -u`."""
    argv = [*kubectl.argv, "diff", "--server-side", "--force-conflicts", "-R", "-f", str(folder)]
    done = subprocess.run(argv, env={**os.environ, **kubectl.environment}, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_the_files_are_what_the_cluster_has_and_their_diff_is_the_change(
    stack: Stack, kubectl: Kubectl, tmp_path: Path
) -> None:
    stack.up()
    assert " written, 0 removed" in write(stack, tmp_path)
    assert cluster_diff(kubectl, tmp_path) == (0, "")
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.yaml")}
    kinds = {yaml.safe_load(text)["kind"] for text in files.values()}
    assert {"CustomResourceDefinition", "Deployment", "Gateway", "Service", "WorkloadGroup"} <= kinds
    text = b"".join(files.values())
    assert b"PRIVATE KEY" not in text and b"token: " not in text

    stack.billing["labels"]["tier"] = "gold"
    assert " ~ vm-apps/workloadgroup.networking.istio.io_billing.yaml" in write(stack, tmp_path).splitlines()
    changed = {path.name for path, before in files.items() if path.read_bytes() != before}
    # The other one is what the registration guard knows.
    kind = "workloadgroup.networking.istio.io"
    assert changed == {f"{kind}_billing.yaml", f"{kind}_billing.vm-apps.istio-vm-mesh.yaml"}
    code, told = cluster_diff(kubectl, tmp_path)
    assert code == 1
    assert [line for line in told.splitlines() if line[:1] == "+" and "tier" in line]
    assert told.count("\n--- ") + told.startswith("--- ") == 2, "two objects differ"
