"""The command provider: what it accepts, what it calls a change, what local commands and `run` do."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from plugin_client import COPY, LOCAL, REMOTE, UNKNOWN, Engine, Failed, Provider, asset, only_ours, secret

OLD_COPY = "command:remote:CopyFile"
OLD = {"create": "a", "triggers": [1], "environment": {"A": "1"}}
DEFAULTS = {"user": "root", "port": 22, "dialErrorLimit": 10, "perDialTimeout": 15}


class TestCheck:
    def test_a_connection_gets_defaults_and_is_secret(self, provider: Provider) -> None:
        given = {"host": "h", "privateKey": "k", "proxy": {"host": "p", "password": "w"}}
        inputs, failures = provider.check(REMOTE, {"connection": given, "stdin": secret("s")})
        proxy = {**DEFAULTS, "host": "p", "password": secret("w")}
        expected = {**DEFAULTS, "host": "h", "privateKey": secret("k"), "proxy": proxy}
        assert (inputs, failures) == ({"connection": secret(expected), "stdin": secret("s")}, [])

    def test_what_is_secret_already_stays_so_once(self, provider: Provider) -> None:
        inputs, _ = provider.check(REMOTE, {"connection": secret({"host": UNKNOWN, "privateKey": secret("k")})})
        assert inputs == {"connection": secret({**DEFAULTS, "host": UNKNOWN, "privateKey": secret("k")})}

    def test_unknown_inputs_pass(self, provider: Provider) -> None:
        inputs = {"create": UNKNOWN, "stdin": secret(UNKNOWN), "triggers": UNKNOWN, "environment": UNKNOWN}
        checked, failures = provider.check(LOCAL, inputs)
        assert (checked["create"], checked["triggers"], failures) == (UNKNOWN, UNKNOWN, [])

    @only_ours
    def test_what_is_not_supported_is_refused(self, provider: Provider) -> None:
        reason = "is not supported by the lab's command plugin"
        assert provider.check(LOCAL, {"assetPaths": ["*"]})[1] == [("assetPaths", reason)]
        assert provider.check(OLD_COPY, {})[1] == [("type", f"{OLD_COPY} {reason}")]

    @pytest.mark.parametrize("source", [UNKNOWN, "text"])
    def test_a_copy_needs_an_asset_even_in_a_preview(self, provider: Provider, source: str) -> None:
        _, failures = provider.check(COPY, {"connection": {"host": "h"}, "source": source, "remotePath": "x"})
        assert failures == [("asset", "either asset or archive must be set")]


class TestDiff:
    @pytest.mark.parametrize(
        ("changed", "expected"),
        [
            ({}, {}),
            ({"create": "b"}, {"create": "UPDATE"}),
            ({"create": secret("a")}, {"create": "UPDATE"}),
            ({"create": UNKNOWN}, {"create": "UPDATE"}),
            ({"update": "u"}, {"update": "ADD"}),
            ({"environment": {"A": "2", "c": "3"}}, {"environment.A": "UPDATE", "environment.c": "ADD"}),
            ({"environment": {}}, {"environment.A": "DELETE"}),
            ({"triggers": [1, 2]}, {"triggers[1]": "ADD"}),
            ({"triggers": [True]}, {"triggers[0]": "UPDATE"}),
            ({"triggers": UNKNOWN}, {"triggers": "UPDATE_REPLACE"}),
            ({"triggers": None}, {"triggers": "DELETE_REPLACE"}),
        ],
    )
    def test_each_changed_input_is_named(
        self, provider: Provider, changed: dict[str, Any], expected: dict[str, str]
    ) -> None:
        assert provider.diff(LOCAL, OLD, {**OLD, **changed}) == expected

    def test_triggers_that_were_not_there_replace(self, provider: Provider) -> None:
        assert provider.diff(LOCAL, {"create": "a"}, {"create": "a", "triggers": [1]}) == {"triggers": "ADD_REPLACE"}

    def test_a_secret_is_one_value(self, provider: Provider) -> None:
        old, new = ({"connection": secret({"host": "h", "port": port})} for port in (1, 2))
        assert provider.diff(REMOTE, old, new) == {"connection": "UPDATE"}
        assert provider.diff(REMOTE, old, dict(old)) == {}

    def test_an_asset_is_its_content(self, provider: Provider) -> None:
        old = {"source": asset(Path("/a"), "1")}
        assert provider.diff(COPY, old, {"source": asset(Path("/b"), "1")}) == {}
        assert provider.diff(COPY, old, {"source": asset(Path("/a"), "2")}) == {"source": "UPDATE"}


class TestLocal:
    def test_create_returns_inputs_and_output_without_the_last_newline(self, provider: Provider) -> None:
        identity, outputs = provider.create(LOCAL, {"create": "cat; echo; echo; echo err >&2", "stdin": " in"}, "a::b")
        assert re.fullmatch("a::b[0-9a-f]{8}", identity)
        assert (outputs["stdin"], outputs["stdout"], outputs["stderr"]) == (" in", " in\n", "err")

    def test_outputs_are_secret_where_their_inputs_are(self, provider: Provider) -> None:
        inputs = {"create": "cat", "stdin": secret("in"), "environment": {"A": secret("b")}}
        assert provider.create(LOCAL, inputs)[1] == {**inputs, "stdout": "in", "stderr": ""}

    def test_without_a_command_nothing_runs(self, provider: Provider) -> None:
        assert provider.create(LOCAL, {"delete": "d"})[1] == {"delete": "d", "stdout": "", "stderr": ""}

    @pytest.mark.parametrize(
        ("inputs", "error"),
        [
            ({"create": 'echo "ä"; sleep 0.1; echo b >&2; exit 3'}, 'exit status 3: running "{}":\nä\nb\n'),
            (
                {"create": "echo '\t\x1b'; exit 1"},
                "exit status 1: running \"echo '\\t\\x1b'; exit 1\":\n\t\x1b\n",
            ),
            ({"create": "kill $$"}, 'signal: terminated: running "{}":\n'),
            ({"create": "x", "dir": "/nowhere"}, 'chdir /nowhere: no such file or directory: running "x":\n'),
            ({"create": "x", "interpreter": ["/no"]}, 'fork/exec /no: no such file or directory: running "x":\n'),
        ],
    )
    def test_a_failure_shows_the_command_and_all_output_in_order(
        self, provider: Provider, inputs: dict[str, Any], error: str
    ) -> None:
        with pytest.raises(Failed) as failure:
            provider.create(LOCAL, inputs)
        assert str(failure.value) == error.replace("{}", inputs["create"].replace('"', '\\"'))

    def test_a_long_output_of_a_failure_arrives(self, provider: Provider) -> None:
        with pytest.raises(Failed) as failure:
            provider.create(LOCAL, {"create": "seq 20000; exit 1", "logging": "none"})
        assert str(failure.value).endswith("\n19999\n20000\n")

    def test_environment_folder_and_interpreter(self, provider: Provider, tmp_path: Path) -> None:
        inputs = {"create": "$A; pwd", "environment": {"A": "echo b"}, "dir": str(tmp_path)}
        assert provider.create(LOCAL, inputs)[1]["stdout"] == f"b\n{tmp_path}"
        assert provider.create(LOCAL, {"create": "$A", "interpreter": ["/bin/echo"]})[1]["stdout"] == "$A"

    def test_update_runs_update_with_the_previous_output(self, provider: Provider) -> None:
        inputs = {"create": "echo new", "update": 'echo "was $PULUMI_COMMAND_STDOUT ${PULUMI_COMMAND_STDERR-unset}"'}
        assert provider.update(LOCAL, {"stdout": secret("old"), "stderr": ""}, inputs)["stdout"] == "was old unset"

    def test_update_falls_back_to_create(self, provider: Provider) -> None:
        assert provider.update(LOCAL, {"stdout": "x", "stderr": ""}, {"create": "echo new"})["stdout"] == "new"

    def test_update_without_a_command_keeps_the_output(self, provider: Provider) -> None:
        assert provider.update(LOCAL, {"stdout": "x", "stderr": ""}, {"delete": "d"})["stdout"] == "x"

    def test_previous_output_can_be_left_out(self, provider: Provider) -> None:
        inputs = {"update": "echo ${PULUMI_COMMAND_STDOUT-unset}", "addPreviousOutputInEnv": False}
        assert provider.update(LOCAL, {"stdout": "x", "stderr": ""}, inputs)["stdout"] == "unset"

    def test_delete_runs_delete(self, provider: Provider, tmp_path: Path) -> None:
        outputs = {"delete": f"cat > {tmp_path}/gone; echo $PULUMI_COMMAND_STDOUT >> {tmp_path}/gone", "stdin": "in"}
        provider.delete(LOCAL, {**outputs, "stdout": "out", "stderr": ""})
        assert (tmp_path / "gone").read_text() == "inout\n"

    def test_a_preview_runs_nothing(self, provider: Provider, tmp_path: Path) -> None:
        inputs = {"create": f"touch {tmp_path}/made"}
        unknown = {"stdout": UNKNOWN, "stderr": UNKNOWN}
        assert provider.create(LOCAL, inputs, preview=True)[1] == {**inputs, **unknown}
        old = {"create": "old", "stdout": "1", "stderr": "2"}
        assert provider.update(LOCAL, old, inputs, preview=True) == {**inputs, **unknown}
        assert not list(tmp_path.iterdir())

    def test_a_preview_of_an_update_knows_the_output_as_long_as_no_input_is_another(self, provider: Provider) -> None:
        old = {"create": "x", "stdout": "1", "stderr": "2"}
        assert provider.update(LOCAL, old, {"create": "x"}, preview=True)["stdout"] == "1"
        assert provider.update(LOCAL, old, {"create": "x", "stdin": "new"}, preview=True)["stdout"] == "1"
        assert provider.update(LOCAL, old, {"create": "x", "stdin": UNKNOWN}, preview=True)["stdout"] == UNKNOWN

    def test_a_custom_timeout_ends_the_command(self, provider: Provider) -> None:
        begun = time.monotonic()
        with pytest.raises(Failed, match=r'^signal: killed: running "exec sleep 60":\n$'):
            provider.create(LOCAL, {"create": "exec sleep 60"}, timeout=1)
        assert time.monotonic() - begun < 20

    @pytest.mark.parametrize(
        ("logging", "shown"),
        [(None, ["e", "o"]), ("stdout", ["o"]), ("stderr", ["e"]), ("none", []), ("stdoutAndStderr", ["e", "o"])],
    )
    def test_logging_says_which_lines_are_reported(
        self, provider: Provider, engine: Engine, logging: str | None, shown: list[str]
    ) -> None:
        inputs = {"create": "echo o; sleep 0.1; printf e >&2"} | ({"logging": logging} if logging else {})
        provider.create(LOCAL, inputs, f"logging-{logging}")
        assert sorted(engine.lines(f"logging-{logging}")) == shown

    def test_lines_are_reported_while_the_command_runs(
        self, provider: Provider, engine: Engine, tmp_path: Path
    ) -> None:
        inputs = {"create": f"echo first; while ! [ -e {tmp_path}/go ]; do sleep 0.02; done"}
        running = threading.Thread(target=provider.create, args=(LOCAL, inputs, "live"))
        running.start()
        deadline = time.monotonic() + 10
        while not engine.lines("live") and time.monotonic() < deadline:
            time.sleep(0.02)
        lines = engine.lines("live")
        (tmp_path / "go").touch()
        running.join()
        assert lines == ["first"]

    def test_input_that_the_command_does_not_read(self, provider: Provider) -> None:
        assert provider.create(LOCAL, {"create": "echo done", "stdin": "x" * 3_000_000})[1]["stdout"] == "done"


class TestRun:
    def test_run_returns_what_it_was_given_and_the_output(self, provider: Provider) -> None:
        result = provider.invoke("command:local:run", {"command": "cat", "stdin": secret("x")})
        assert result == {"command": "cat", "stdin": secret("x"), "stdout": "x", "stderr": ""}

    def test_a_failure(self, provider: Provider) -> None:
        with pytest.raises(Failed, match=r'^exit status 3: running "exit 3":\n$'):
            provider.invoke("command:local:run", {"command": "exit 3"})


def test_a_cancelled_run_ends_its_commands_and_begins_none(plugins: Path, engine: Engine) -> None:
    provider = Provider(plugins / "pulumi-resource-command", engine)
    failures: list[str] = []

    def create() -> None:
        with pytest.raises(Failed) as failure:
            provider.create(LOCAL, {"create": "echo begun; exec sleep 60"}, "cancelled")
        failures.append(str(failure.value))

    running = threading.Thread(target=create)
    running.start()
    while not engine.lines("cancelled"):
        time.sleep(0.02)
    provider.cancel()
    running.join(10)
    create()
    assert failures == [
        'signal: killed: running "echo begun; exec sleep 60":\nbegun\n',
        'context canceled: running "echo begun; exec sleep 60":\n',
    ]
    provider.interrupt()


def test_an_interrupt_ends_plugin_and_commands_quietly(plugins: Path, engine: Engine) -> None:
    provider = Provider(plugins / "pulumi-resource-command", engine)

    def create() -> None:
        with pytest.raises(Failed):
            provider.create(LOCAL, {"create": "echo begun; exec sleep 61"}, "interrupted")

    running = threading.Thread(target=create)
    running.start()
    while not engine.lines("interrupted"):
        time.sleep(0.02)
    provider.interrupt()
    running.join(10)
    assert "sleep 61" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
