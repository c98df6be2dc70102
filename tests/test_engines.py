"""Which engine runs the stack, and what the CLI's file backend has to survive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from lab_places import move

from lab import engines, paths
from lab.engines import Embedded, Engine, PulumiCli, choose
from lab.errors import LabError

ENGINES = {"embedded": Embedded, "pulumi": PulumiCli}


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    return move(monkeypatch, tmp_path)


def put(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def hold(engine: str) -> None:
    """Leave the state of a stack that an engine brought up."""
    if engine == "embedded":
        put(paths.STATE / "dev.json", {"resources": {"urn:a": {}}, "creating": {}})
    else:
        put(PulumiCli("dev", {}).state, {"version": 3, "checkpoint": {"latest": {"resources": [{"urn": "urn:a"}]}}})


def chosen(wanted: str = "", *, has_cli: bool = True) -> Engine:
    return choose("dev", {}, wanted=wanted, has_cli=has_cli)


@pytest.mark.parametrize(
    ("wanted", "has_cli", "engine"),
    [
        ("", False, "embedded"),
        ("", True, "pulumi"),
        ("embedded", True, "embedded"),
        ("pulumi", True, "pulumi"),
    ],
)
def test_the_cli_runs_where_it_is_there_or_as_wanted(places: Path, wanted: str, has_cli: bool, engine: str) -> None:
    assert isinstance(chosen(wanted, has_cli=has_cli), ENGINES[engine])


@pytest.mark.parametrize(("holder", "other"), [("embedded", "pulumi"), ("pulumi", "embedded")])
def test_a_stack_stays_with_the_engine_that_brought_it_up(places: Path, holder: str, other: str) -> None:
    hold(holder)
    assert isinstance(chosen(), ENGINES[holder])
    assert isinstance(chosen(holder), ENGINES[holder])
    with pytest.raises(LabError, match=f"ENGINE={other}: the stack was brought up with ENGINE={holder}; .*make down"):
        chosen(other)


def test_a_stack_that_was_destroyed_is_free(places: Path) -> None:
    put(paths.STATE / "dev.json", {"resources": {}, "creating": {}})
    put(PulumiCli("dev", {}).state, {"version": 3, "checkpoint": {"latest": {"manifest": {}}}})
    assert isinstance(chosen("embedded"), Embedded)
    assert isinstance(chosen("pulumi"), PulumiCli)


def test_what_a_killed_run_began_counts(places: Path) -> None:
    put(paths.STATE / "dev.journal", {})
    assert Embedded("dev", {}).holds()
    put(PulumiCli("dev", {}).state, {"checkpoint": {"latest": {"pending_operations": [{"type": "creating"}]}}})
    assert PulumiCli("dev", {}).holds()


def test_an_unknown_or_missing_engine_is_named(places: Path) -> None:
    with pytest.raises(LabError, match=r"ENGINE: unknown engine \(got 'terraform'\); embedded or pulumi"):
        chosen("terraform")
    with pytest.raises(LabError, match="there is no pulumi on PATH"):
        chosen("pulumi", has_cli=False)
    hold("pulumi")
    with pytest.raises(LabError, match="there is no pulumi on PATH"):
        chosen(has_cli=False)


def cli_with_recorder(places: Path) -> tuple[PulumiCli, Path]:
    """A stand-in for the CLI that writes down its command lines; the stack exists already."""
    log, program = places / "log", places / "bin" / "pulumi"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >> {log}\n')
    program.chmod(0o755)
    log.touch()
    for name in ("Pulumi.yaml", "Pulumi.dev.yaml"):
        (paths.CHECKOUT / name).write_text("config: {}\n")
    return PulumiCli("dev", {"PATH": f"{program.parent}:{os.environ['PATH']}"}), log


def test_the_committed_stack_file_is_never_what_the_cli_may_write_to(places: Path) -> None:
    engine, log = cli_with_recorder(places)
    engine.prepare()
    assert log.read_text().split()[:2] == ["-C", str(paths.PULUMI)]
    assert engine.stack_file.read_text() == "config: {}\n"
    assert str(engine.stack_file) in engine.argv("up")
    assert str(paths.CHECKOUT / "Pulumi.dev.yaml") not in engine.argv("up")
    assert (paths.PULUMI / "passphrase").stat().st_mode & 0o777 == 0o600
    assert "PULUMI_CONFIG_PASSPHRASE" not in engine.variables()


def gone() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.mark.parametrize(("holder", "cancelled"), [("killed", True), ("reused", True), ("running", False)])
def test_only_the_lock_of_a_killed_run_is_taken_away(places: Path, holder: str, cancelled: bool) -> None:
    engine, log = cli_with_recorder(places)
    hold("pulumi")
    sleeper = places / "pulumi-sleeper"
    sleeper.symlink_to("/bin/sleep")
    with subprocess.Popen([sleeper if holder == "running" else sys.executable, *["30"][: holder == "running"]],
                          stdin=subprocess.PIPE) as process:  # fmt: skip
        while holder == "running" and "pulumi" not in Path(f"/proc/{process.pid}/comm").read_text():
            time.sleep(0.01)  # the kernel names a process a moment after it has started it
        pid = gone() if holder == "killed" else process.pid
        put(paths.PULUMI / ".pulumi/locks/organization/istio-vm-mesh/dev/1.json", {"pid": pid})
        engine.prepare()
        process.kill()
    assert ("cancel --yes --stack dev" in log.read_text()) == cancelled


def test_what_a_killed_run_was_creating_is_taken_off_the_list(places: Path) -> None:
    engine, _ = cli_with_recorder(places)
    put(engine.state, {"checkpoint": {"latest": {"resources": [], "pending_operations": [{"type": "creating"}]}}})
    exported = {"version": 3, "deployment": {"resources": [], "pending_operations": [{"type": "creating"}]}}
    put(places / "exported", exported)
    program = places / "bin" / "pulumi"
    program.write_text(
        f"#!/bin/sh\ncase $4 in export) cat {places}/exported ;; import) cat > {places}/imported ;; esac\n"
    )
    engine.prepare()
    assert json.loads((places / "imported").read_text()) == {"version": 3, "deployment": {"resources": []}}


def test_a_run_that_never_ends_is_ended(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = cli_with_recorder(places)
    hold("pulumi")
    (places / "bin" / "pulumi").write_text('#!/bin/sh\ntrap "" TERM\nwhile :; do sleep 0.05; done\n')
    monkeypatch.setattr(engines, "GRACE_SECONDS", 0.2)
    assert engine.run("up", seconds=0.2) != 0
