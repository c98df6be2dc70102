"""A user's first run that is killed, on a file backend of the user's own, comes right with the command in the docs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stack import PROJECT, Stack, kill

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]


@pytest.fixture
def gone(dev_stack: Stack) -> Iterator[Stack]:
    """The dev stack destroyed; afterwards it is up again."""
    done = dev_stack.run("destroy")
    assert done.returncode == 0, done.stdout + done.stderr
    yield dev_stack
    dev_stack.up()


def test_the_command_in_the_docs_continues_after_a_killed_first_run(gone: Stack, tmp_path: Path) -> None:
    backend = tmp_path / "backend"
    backend.mkdir()
    environment = {
        **gone.environment,
        "PULUMI_BACKEND_URL": f"file://{backend}?metadata=skip",
        "PULUMI_CONFIG_PASSPHRASE": "of a user",
    }
    environment.pop("PULUMI_CONFIG_PASSPHRASE_FILE")
    file = backend / "Pulumi.dev.yaml"
    for name in ("Pulumi.yaml", "Pulumi.dev.yaml"):
        (backend / name).write_text((PROJECT / name).read_text())
    flags = ["--config-file", str(file), "--yes", "--skip-preview", "--non-interactive"]
    state = backend / ".pulumi/stacks/istio-vm-mesh/dev.json"

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, cwd=PROJECT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300
        )

    created = run("pulumi", "-C", str(backend), "stack", "select", "--create", "--stack", "dev")
    assert created.returncode == 0, created.stderr
    with subprocess.Popen(
        ["pulumi", "up", "--stack", "dev", *flags],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as first:
        end = time.monotonic() + 120
        # Istiod's objects are there, and the run waits for it to be ready.
        while "istio-system/istiod" not in (state.read_text() if state.exists() else ""):
            assert first.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        kill(first)
    refused = run("pulumi", "up", "--stack", "dev", "--continue-on-error", *flags)
    assert refused.returncode != 0
    assert "the stack is currently locked by 1 lock(s)" in refused.stdout + refused.stderr
    done = run(sys.executable, "-m", "recover", "--stack", "dev", *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "recover: the killed run was creating " in done.stdout
    outputs = json.loads(run("pulumi", "stack", "output", "--json", "--stack", "dev").stdout)
    assert {vm["state"] for vm in outputs["registration"]["vms"].values()} == {"healthy"}
    plan = json.loads(run("pulumi", "preview", "--json", "--stack", "dev", *flags[:2], "--non-interactive").stdout)
    assert set(plan["changeSummary"]) == {"same"}
    left = run("pulumi", "destroy", "--stack", "dev", *flags)
    assert left.returncode == 0, left.stdout + left.stderr
