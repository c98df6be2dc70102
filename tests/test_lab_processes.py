"""Real processes, real signals: only the recorded process is ever ended."""

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from lab_places import move

from lab import cgroups, paths, processes
from lab.tasks import Cancel


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[processes.Record]:
    move(monkeypatch, tmp_path)
    group = tmp_path / "group"
    group.mkdir()
    monkeypatch.setattr(cgroups, "create", lambda name: (group,))
    record = processes.spawn("sleeper", ["/bin/sh", "-c", "echo started with $WORD; exec sleep 60"], env={"WORD": "x"})
    yield record
    processes.end([record])


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["/bin/sleep", "60"])
    yield process
    process.kill()
    process.wait()


def test_a_stat_line_with_an_odd_name() -> None:
    fields = " ".join(str(n) for n in range(4, 53))
    assert processes.parse_stat(f"7 (a) b (c)) S {fields}") == ("S", 22)


def test_a_process_is_recorded_with_its_log_and_control_group(spawned: processes.Record, tmp_path: Path) -> None:
    assert processes.read("sleeper") == spawned
    assert spawned.alive
    assert processes.alive("sleeper")
    Cancel().until(lambda: Path(spawned.log).read_text() != "", "the log", 5)
    assert processes.last_lines(spawned.log) == "started with x"
    assert (tmp_path / "group/cgroup.procs").read_text() == f"{spawned.pid}\n"
    assert os.getsid(spawned.pid) == spawned.pid


def test_a_process_keeps_nothing_open_of_its_caller(spawned: processes.Record) -> None:
    ours, inherited = os.pipe()
    os.set_inheritable(inherited, True)
    second = processes.spawn("second", ["/bin/sleep", "60"], env={})
    os.close(inherited)
    ended, _, _ = select.select([ours], [], [], 5)
    processes.end([second])
    os.close(ours)
    assert ended


def test_an_ended_process_is_not_alive_although_nobody_asked_for_its_status(spawned: processes.Record) -> None:
    os.kill(spawned.pid, signal.SIGKILL)
    Cancel().until(lambda: not spawned.alive, "its end", 5)
    assert processes.wait_end(spawned, 5)


def test_ending_waits_for_the_end(spawned: processes.Record) -> None:
    assert processes.end([spawned]) == []
    assert not spawned.alive


def test_another_process_under_the_same_id_is_left_alone(
    spawned: processes.Record, bystander: subprocess.Popen[bytes]
) -> None:
    start = processes.start_time(bystander.pid)
    assert start is not None
    stale = replace(spawned, pid=bystander.pid, started=start - 1)
    assert not stale.alive
    assert processes.end([stale]) == []
    assert bystander.poll() is None
    assert not replace(stale, started=start, boot="an earlier one").alive
    processes.end([replace(stale, started=start, boot="an earlier one")])
    assert bystander.poll() is None


def test_a_stubborn_process_is_named(spawned: processes.Record) -> None:
    assert processes.end([spawned], sig=signal.SIGCONT, seconds=0.1) == [spawned.pid]


def test_a_broken_record_counts_as_none(spawned: processes.Record) -> None:
    (paths.PROCESSES / "half.json").write_text('{"name": "ha')
    (paths.PROCESSES / "other.json").write_text('{"name": "x", "argv": []}')
    assert processes.records() == [spawned]
    processes.forget("sleeper")
    assert processes.records() == []
