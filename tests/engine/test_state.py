"""State: it survives a kill at any moment, belongs to one run at a time, and keeps secrets."""

import contextlib
import ctypes
import json
import os
import random
import signal
import stat
import time
from pathlib import Path

import pytest

from lab.engine.state import LockedError, Record, State

PROGRAM = """
    last = None
    for i in range(4):
        last = Thing(f"chain-{i}", value=last.out if last else phase, sleep=0.01, sleepAfter=0.01)
    for i in range(4):
        Thing(f"wide-{i}", immutable=phase, fixed=True, sleepAfter=0.02)
    pulumi.export("last", last.out)
"""


def kill(stack, pid):
    """Kill an engine, unless it has ended already, and wait until its program has noticed and the lock is free."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}"):  # noqa: PTH110  (a path of the kernel's, read in a tight loop)
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_run_killed_at_any_moment_is_continued_by_the_next(stack):
    stack.program(PROGRAM)
    pick = random.Random(7)
    for turn in range(6):
        stack.phase(str(turn // 2))
        (stack.world / "calls").write_text("")
        lines = pick.randrange(1, 10)
        kill(stack, stack.in_background("up", lambda n=lines: len(stack.lines()) >= n))
    result = stack.up()
    assert result.good, result.text
    names = [f"{kind}-{i}" for kind in ("chain", "wide") for i in range(4)]
    assert sorted(stack.objects()) == names  # each once
    assert stack.engine.outputs() == {"last": "out-chain-3"}
    assert stack.up().changes == []
    kill(stack, stack.in_background("destroy", lambda: len(stack.lines()) >= 3))
    assert stack.destroy().good
    assert (stack.objects(), stack.records()) == ({}, {})


def test_a_create_that_was_cut_off_is_told_and_done_again(stack):
    stack.program("Thing('one', sleepAfter=60 if phase == '1' else 0)")
    kill(stack, stack.in_background("up", lambda: stack.objects_named("one") == 1))
    result = stack.up("2")
    assert result.good
    assert result.warnings == ["it was being created when the last run ended, so it may exist"]
    assert stack.lines() == ["create-begin one adopt", "create one"]
    assert stack.objects_named("one") == 1
    assert stack.up("2").warnings == []

    stack.program("Thing('one'); Thing('gone', sleep=60)")
    kill(stack, stack.in_background("up", lambda: "create-begin gone" in stack.lines()))
    stack.program("Thing('one')")
    assert "remove it by hand" in stack.up().warnings[1]
    assert stack.up().warnings == []


def test_one_run_at_a_time(stack):
    stack.program("Thing('one', sleep=60)")
    pid = stack.in_background("up", lambda: stack.lines() != [])
    with pytest.raises(LockedError, match=rf"stack dev is being changed by process {pid} since \d\d:\d\d:\d\d"):
        stack.up()
    assert stack.preview().changes[-1] == ("create", "one")
    kill(stack, pid)


@pytest.mark.parametrize("asleep", [False, True])
def test_an_interrupted_run_ends_in_good_order(stack, asleep):
    stack.program("one = Thing('one', sleep=0.5); Thing('two', value=one.out)")
    pid = stack.in_background("up", lambda: stack.lines() != [])
    # A signal to another thread does not wake the main one, just as one that comes before a blocking call.
    thread = next(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir() if (task.name != str(pid)) is asleep)
    assert ctypes.CDLL(None).tgkill(pid, thread, signal.SIGINT) == 0
    while "create one" not in stack.lines():
        time.sleep(0.01)
    deadline = time.monotonic() + 10
    while (stack.engine.state / "dev.journal").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "one" in stack.records()
    assert stack.objects_named("two") == 0


def test_secrets_are_in_nothing_that_a_run_leaves_or_prints(stack):
    lines = "\n".join(f"line-of-a-key-{i:020}" for i in range(3))
    stack.program(
        f"""
        password = pulumi.Config().require_secret("password")
        key = pulumi.Output.secret({lines!r})
        one = Thing("one", password=password, nested={{"deep": [key]}}, opts=Opts(additional_secret_outputs=["name"]))
        two = Thing("two", value=one.token, text=pulumi.Output.concat("a\\nb ", phase, " ", password, "\\nc"))
        if phase == "3":
            Thing("bad", fail=pulumi.Output.concat("it said ", password, " and ", key))
        pulumi.log.warn("leaking correct-horse")
        print("printing correct-horse")
        if phase == "4":
            raise pulumi.RunError("wrong: correct-horse")
        pulumi.export("token", one.token)
        pulumi.export("open", one.out)
        """
    )
    everything = ""
    for phase in "1234":
        previews = [stack.preview(phase), stack.preview(phase, as_json=True), stack.preview(phase, more=True)]
        for result in (*previews, stack.up(phase)):
            everything += result.text
    for path in stack.engine.state.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        everything += path.read_bytes().decode(errors="replace")
    for secret in ("correct-horse", "tok-one-secret", "line-of-a-key", "hunter"):
        assert secret not in everything, secret
    assert "cannot create bad: [secret]" in everything
    assert "printing [secret]" in everything
    assert stack.engine.outputs() == {"token": "[secret]", "open": "out-one"}
    assert stack.engine.outputs(show_secrets=True)["token"] == "tok-one-secret"
    assert json.loads((stack.world / f"{stack.records()['one']['id']}.json").read_text())["password"] == "correct-horse"
    assert set(stack.records()["one"]["outputs"]["name"]) == {"4dabf18193072939515e22adb298388d", "ciphertext"}


def test_many_resources_at_once(stack):
    stack.program(
        """
        for i in range(60):
            one = Thing(f"vm-{i}-a", value=phase, sleep=0.2, stdin="x" * 8000)
            Thing(f"vm-{i}-b", value=one.out, stdin="y" * 8000)
        """
    )
    assert stack.up("1").good
    under_way, most = 0, 0
    for line in stack.lines():
        under_way += 1 if line.startswith("create-begin ") else -1
        most = max(most, under_way)
    assert most > 30
    assert stack.destroy().good
    assert stack.records() == {}


def test_a_journal_whose_last_line_is_cut_off(tmp_path):
    state = State(tmp_path, "s", writable=True)
    urn = "urn:pulumi:s::p::a:b:C::{}".format
    for name in "xyz":
        state.commit({urn(name): Record(urn=urn(name), type="a:b:C", custom=True, outputs={"n": 1.5, "m": 2})})
    state.commit({urn("x"): None}, creating={urn("w"): True})
    journal = tmp_path / "s.journal"
    written = journal.read_text()
    state.close()
    (tmp_path / "s.json").unlink()  # as if the run had been killed: there is only the journal
    journal.write_text(written + '{"resources": {"' + urn("y") + '": null}, "crea')
    again = State(tmp_path, "s", writable=True)
    assert sorted(again.records) == [urn("y"), urn("z")]
    assert again.records[urn("y")].outputs == {"n": 1.5, "m": 2}
    assert again.creating == {urn("w")}
    again.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.json"]
    before = (tmp_path / "s.json").stat().st_mtime_ns
    State(tmp_path, "s", writable=True).close()
    assert (tmp_path / "s.json").stat().st_mtime_ns == before  # a run without changes writes nothing
