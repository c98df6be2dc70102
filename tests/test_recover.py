"""What is taken out of a killed run's state, and what the command says where it cannot go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from recover import without_pending

PROJECT = Path(__file__).resolve().parents[1]
URN = "urn:pulumi:prod::istio-vm-mesh::command:remote:Command::billing-1-configure"


def test_only_the_list_of_operations_goes() -> None:
    resources = [{"urn": "urn:pulumi:prod::istio-vm-mesh::pulumi:pulumi:Stack::istio-vm-mesh-prod"}]
    pending = [{"type": "creating", "resource": {"urn": URN}}]
    exported = {"version": 3, "deployment": {"resources": resources, "pending_operations": pending}}
    state, named = without_pending(json.dumps(exported))
    assert json.loads(state) == {"version": 3, "deployment": {"resources": resources}}
    assert named == ["creating billing-1-configure"]
    assert without_pending(state) == (state, [])


def run(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """The command with a `pulumi` that is this shell text."""
    if script:
        (folder / "pulumi").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "pulumi").chmod(0o755)
    return subprocess.run(
        [sys.executable, "-m", "recover", "--stack", "prod"],
        cwd=PROJECT,
        env={"PATH": f"{folder}:/bin:/usr/bin", "HOME": os.environ["HOME"]},
        capture_output=True,
        text=True,
    )


def test_a_refusal_of_the_cli_is_told_in_its_own_words_and_nothing_follows(tmp_path: Path) -> None:
    done = run(tmp_path, 'echo "$*" >>"${0%/*}/log"; echo "error: no stack named \'prod\' found" >&2; exit 255')
    assert done.returncode == 1
    assert done.stderr == (
        "recover: pulumi cancel --yes --stack prod --non-interactive: error: no stack named 'prod' found\n"
    )
    assert (tmp_path / "log").read_text() == "cancel --yes --stack prod --non-interactive\n"


def test_without_the_cli_it_says_where_to_get_it(tmp_path: Path) -> None:
    done = run(tmp_path, "")
    assert done.returncode == 1
    assert done.stderr == "recover: pulumi is not on PATH: https://www.pulumi.com/docs/install/\n"
