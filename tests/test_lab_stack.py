"""How the lab runs the Pulumi CLI: on which program, which stack file, and after a run that was killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab_places import move

from lab import paths
from lab.errors import LabError
from lab.stack import Stack, programs


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return move(monkeypatch, tmp_path)


@pytest.fixture
def recorded(places: Path) -> tuple[Stack, Path]:
    """The stack with a stand-in for the CLI that writes down its command lines; the stack exists already."""
    log, program = places / "log", places / "bin" / "pulumi"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >> {log}\necho \'{{"deployment": {{}}}}\'\n')
    program.chmod(0o755)
    log.touch()
    for name in ("Pulumi.yaml", "Pulumi.dev.yaml"):
        (paths.CHECKOUT / name).write_text("config: {}\n")
    variables = {"PATH": os.environ["PATH"], "PULUMI": str(program)}
    stack = Stack("dev", variables, paths.CHECKOUT / "Pulumi.dev.yaml")
    stack.state.parent.mkdir(parents=True)
    stack.state.write_text("{}")
    return stack, log


def test_the_committed_stack_file_is_never_what_the_cli_may_write_to(recorded: tuple[Stack, Path]) -> None:
    stack, log = recorded
    stack.state.unlink()
    stack.prepare("up")
    assert log.read_text().split()[:2] == ["-C", str(paths.PULUMI)]
    assert stack.file.read_text() == "config: {}\n"
    assert str(stack.file) in stack.argv("up")
    assert str(paths.CHECKOUT / "Pulumi.dev.yaml") not in stack.argv("up")
    assert (paths.PULUMI / "passphrase").stat().st_mode & 0o777 == 0o600
    assert "PULUMI_CONFIG_PASSPHRASE" not in stack.variables()


def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize(("holder", "cancelled"), [("killed", True), ("reused", True), ("running", False)])
def test_only_the_lock_of_a_killed_run_is_taken_away_and_then_existing_objects_are_taken_over(
    recorded: tuple[Stack, Path], places: Path, holder: str, cancelled: bool
) -> None:
    stack, log = recorded
    sleeper = places / "pulumi-sleeper"
    sleeper.symlink_to("/bin/sleep")
    argv = [str(sleeper), "30"] if holder == "running" else [sys.executable]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
        while holder == "running" and "pulumi" not in Path(f"/proc/{process.pid}/cmdline").read_text():
            time.sleep(0.01)  # until it has begun to run the program
        pid = gone() if holder == "killed" else process.pid
        lock = paths.PULUMI / ".pulumi/locks/organization/istio-vm-mesh/dev/1.json"
        lock.parent.mkdir(parents=True)
        lock.write_text(json.dumps({"pid": pid}))
        stack.prepare("up")
        process.kill()
    done = [line.split(" --")[0] for line in log.read_text().splitlines()]
    assert done == ([f"-C {paths.PULUMI} cancel", f"-C {paths.PULUMI} stack export", "up"] if cancelled else [])
    lock.unlink()
    log.write_text("")
    stack.prepare("up")
    assert log.read_text() == "", "only the run after a killed one takes over"


def test_another_cli_is_named_by_its_folder_or_itself(recorded: tuple[Stack, Path], places: Path) -> None:
    for given in (places / "bin", places / "bin" / "pulumi"):
        assert programs({"PULUMI": str(given), "PATH": "/bin"}) == {"PATH": f"{places}/bin:/bin"}
    (places / "empty").mkdir()
    with pytest.raises(LabError) as refused:
        programs({"PULUMI": str(places / "empty"), "PATH": "/bin"})
    assert str(refused.value) == (
        f"PULUMI: no Pulumi CLI (got '{places}/empty'). Fix: give a folder that holds pulumi, or its path"
    )
