"""Commands: what the local command resource and the `run` function do, and how inputs are checked and compared."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from lab.engine.providers.base import CheckError, Context, ProviderError
from lab.engine.providers.command import LOCAL, REMOTE, CommandProvider
from lab.engine.values import UNKNOWN

PROVIDER = CommandProvider({})
URN = "urn:pulumi:dev::p::command:local:Command::hello"


def context(**options: Any) -> Context:
    return Context(urn=URN, **options)


class TestLocal:
    def test_create_returns_inputs_and_output_without_the_last_newline(self) -> None:
        id_, outputs = PROVIDER.create(LOCAL, {"create": "cat; echo; echo err >&2", "stdin": "in"}, context())
        assert id_.startswith("hello") and len(id_) == len("hello") + 8
        assert outputs == {"create": "cat; echo; echo err >&2", "stdin": "in", "stdout": "in", "stderr": "err"}

    def test_failure_shows_status_command_and_all_output_in_order(self) -> None:
        with pytest.raises(ProviderError) as failure:
            PROVIDER.create(LOCAL, {"create": 'echo "a"; sleep 0.1; echo b >&2; exit 3'}, context())
        assert str(failure.value) == 'exit status 3: running "echo \\"a\\"; sleep 0.1; echo b >&2; exit 3":\na\nb\n'
        assert failure.value.partial is None

    def test_signal_is_named(self) -> None:
        with pytest.raises(ProviderError, match="signal: SIGTERM"):
            PROVIDER.create(LOCAL, {"create": "kill $$"}, context())

    def test_environment(self) -> None:
        inputs = {"create": "echo $A", "environment": {"A": "b"}}
        assert PROVIDER.create(LOCAL, inputs, context())[1]["stdout"] == "b"

    def test_update_runs_update_with_the_previous_output(self) -> None:
        inputs = {"create": "echo new", "update": 'echo "was $PULUMI_COMMAND_STDOUT ${PULUMI_COMMAND_STDERR-unset}"'}
        outputs = PROVIDER.update(LOCAL, "id", inputs, {"stdout": "old", "stderr": ""}, inputs, context())
        assert outputs["stdout"] == "was old unset"

    def test_update_falls_back_to_create(self) -> None:
        assert PROVIDER.update(LOCAL, "id", {}, {}, {"create": "echo new"}, context())["stdout"] == "new"

    def test_update_without_a_command_keeps_the_output(self) -> None:
        assert PROVIDER.update(LOCAL, "id", {}, {"stdout": "x"}, {"delete": "d"}, context())["stdout"] == "x"

    def test_previous_output_can_be_left_out(self) -> None:
        inputs = {"update": "echo ${PULUMI_COMMAND_STDOUT-unset}", "addPreviousOutputInEnv": False}
        assert PROVIDER.update(LOCAL, "id", {}, {"stdout": "x"}, inputs, context())["stdout"] == "unset"

    def test_delete_runs_delete(self, tmp_path: Path) -> None:
        PROVIDER.delete(LOCAL, "id", {"delete": f"touch {tmp_path}/gone"}, {}, context())
        assert (tmp_path / "gone").exists()

    def test_preview_runs_nothing(self, tmp_path: Path) -> None:
        inputs = {"create": f"touch {tmp_path}/made"}
        id_, outputs = PROVIDER.create(LOCAL, inputs, context(preview=True))
        assert (id_, outputs["stdout"], outputs["stderr"]) == ("", UNKNOWN, UNKNOWN)
        assert PROVIDER.update(LOCAL, "i", {}, {}, inputs, context(preview=True))["stdout"] is UNKNOWN
        assert not (tmp_path / "made").exists()

    def test_custom_timeout_ends_the_whole_process_group(self) -> None:
        begun = time.monotonic()
        with pytest.raises(ProviderError, match=r"timed out after 0\.3 s: running"):
            PROVIDER.create(LOCAL, {"create": "sleep 60 & sleep 60"}, context(timeout=0.3))
        assert time.monotonic() - begun < 30

    @pytest.mark.parametrize(
        ("logging", "shown"),
        [(None, ["o", "e"]), ("stdout", ["o"]), ("stderr", ["e"]), ("none", []), ("stdoutAndStderr", ["o", "e"])],
    )
    def test_logging_says_which_lines_are_reported(self, logging: str | None, shown: list[str]) -> None:
        lines: list[str] = []
        inputs = {"create": "echo o; echo e >&2"} | ({"logging": logging} if logging else {})
        PROVIDER.create(LOCAL, inputs, context(report=lines.append))
        assert sorted(lines) == sorted(shown)

    def test_run_function(self) -> None:
        result = PROVIDER.invoke("command:local:run", {"command": "cat", "stdin": "x", "dir": None})
        assert result == {"command": "cat", "stdin": "x", "stdout": "x", "stderr": ""}

    def test_run_refuses_what_it_cannot_do(self) -> None:
        with pytest.raises(CheckError, match=r"assetPaths: is not supported by the embedded engine"):
            PROVIDER.invoke("command:local:run", {"command": "true", "assetPaths": ["*"]})


class TestCheckAndDiff:
    def test_unsupported_inputs_and_bad_logging_are_all_named(self) -> None:
        with pytest.raises(CheckError) as failure:
            PROVIDER.check(LOCAL, None, {"archivePaths": ["x"], "interpreter": ["sh"], "logging": "loud"}, name="n")
        assert [path for path, _ in failure.value.problems] == ["archivePaths", "interpreter", "logging"]

    def test_connection_gets_the_defaults(self) -> None:
        checked = PROVIDER.check(REMOTE, None, {"connection": {"host": "h"}}, name="n")
        defaults = {"user": "root", "port": 22, "dialErrorLimit": 10, "perDialTimeout": 15}
        assert checked["connection"] == {"host": "h", **defaults}

    def test_bad_connection(self) -> None:
        proxy = {"hostKey": "ssh-ed25519 nonsense", "proxy": {"host": "p"}}
        connection = {"hots": "h", "hostKey": "ssh-ed25519 nonsense", "proxy": proxy}
        with pytest.raises(CheckError) as failure:
            PROVIDER.check(REMOTE, None, {"connection": connection}, name="n")
        assert [path for path, _ in failure.value.problems] == [
            "connection.hots",
            "connection.host",
            "connection.hostKey",
            "connection.proxy.proxy",
            "connection.proxy.host",
            "connection.proxy.hostKey",
        ]

    def test_unknown_connection_passes(self) -> None:
        assert PROVIDER.check(REMOTE, None, {"connection": UNKNOWN}, name="n") == {"connection": UNKNOWN}
        host = {"connection": {"host": UNKNOWN, "hostKey": UNKNOWN, "privateKey": UNKNOWN}}
        assert PROVIDER.check(REMOTE, None, host, name="n")["connection"]["host"] is UNKNOWN

    def test_triggers_replace_and_the_rest_updates(self) -> None:
        old = {"create": "a", "triggers": [1]}
        changed = PROVIDER.diff(LOCAL, "i", old, {}, {"create": "b", "triggers": [1], "stdin": "s"})
        assert (changed.changed, changed.replace) == (True, ())
        assert changed.detailed == {"create": "update", "stdin": "add"}
        assert PROVIDER.diff(LOCAL, "i", old, {}, {"create": "a", "triggers": [2]}).replace == ("triggers[0]",)
        assert not PROVIDER.diff(LOCAL, "i", old, {}, dict(old)).changed


def test_provider_refuses_configuration() -> None:
    with pytest.raises(CheckError, match="user: is not an option of the command provider"):
        CommandProvider({"user": "x"})
