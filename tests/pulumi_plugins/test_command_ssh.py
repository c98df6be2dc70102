"""The command provider's remote commands and copies, over a real ssh server: by key or agent, straight or by proxy."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from plugin_client import COPY, REMOTE, Engine, Failed, Provider, asset, secret
from ssh_server import Server, agent

DENIED = "ssh: handshake failed: ssh: unable to authenticate, attempted methods [{}], no supported methods remain"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("home")).running() as server:
        yield server


@pytest.fixture
def refused() -> int:
    """A port where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


def run(provider: Provider, connection: dict[str, Any], command: str = "echo ok", name: str = "n", **more: Any) -> Any:
    inputs = {"connection": secret(connection), "create": command, **more}
    return provider.create(REMOTE, inputs, name)[1]["stdout"]


def failure(provider: Provider, connection: dict[str, Any], command: str = "true", name: str = "n", **more: Any) -> str:
    with pytest.raises(Failed) as failed:
        run(provider, connection, command, name, **more)
    return str(failed.value)


class TestCommand:
    def test_create_update_delete(self, provider: Provider, server: Server, tmp_path: Path) -> None:
        inputs = {
            "connection": secret({**server.connection(), "privateKey": secret(server.connection()["privateKey"])}),
            "create": "cat; echo err >&2",
            "update": "echo updated",
            "delete": f"cat > {tmp_path}/gone",
            "stdin": secret("given"),
        }
        _, outputs = provider.create(REMOTE, inputs)
        assert outputs == {**inputs, "stdout": "given", "stderr": "err"}
        outputs = provider.update(REMOTE, outputs, inputs)
        assert (outputs["stdout"], outputs["stderr"]) == ("updated", "")
        assert server.environments[-1] == {"PULUMI_COMMAND_STDOUT": "given", "PULUMI_COMMAND_STDERR": "err"}
        provider.update(REMOTE, outputs, {**inputs, "addPreviousOutputInEnv": False, "environment": {"A": "b"}})
        assert server.environments[-1] == {"A": "b"}
        provider.delete(REMOTE, outputs)
        assert (tmp_path / "gone").read_text() == "given"

    def test_failure_shows_status_command_and_output(self, provider: Provider, server: Server) -> None:
        command = 'echo "out"; sleep 0.2; echo err >&2; exit 7'
        expected = (
            'Process exited with status 7: running "echo \\"out\\"; sleep 0.2; echo err >&2; exit 7":\nout\nerr\n'
        )
        assert failure(provider, server.connection(), command) == expected

    def test_signal(self, provider: Provider, server: Server) -> None:
        expected = 'Process exited with status 143 from signal TERM: running "kill $$":\n'
        assert failure(provider, server.connection(), "kill $$") == expected

    def test_a_connection_that_breaks(self, provider: Provider, server: Server) -> None:
        expected = 'wait: remote command exited without exit status or exit signal: running "vanish":\n'
        assert failure(provider, server.connection(), "vanish") == expected

    def test_lines_are_reported(self, provider: Provider, server: Server, engine: Engine) -> None:
        run(provider, server.connection(), "echo a; echo; printf 'b\\r\\nä'", "remote-lines")
        assert engine.lines("remote-lines") == ["a", "", "b", "ä"]

    def test_an_output_longer_than_any_buffer(self, provider: Provider, server: Server) -> None:
        command = "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end"
        assert run(provider, server.connection(), command, logging="none") == "x" * 3_000_000 + "\nend"

    def test_input_that_the_command_does_not_read(self, provider: Provider, server: Server) -> None:
        assert run(provider, server.connection(), "echo done", stdin="x" * 1_000_000) == "done"

    def test_many_at_once(self, provider: Provider, server: Server) -> None:
        results: list[str] = []
        threads = [
            threading.Thread(target=lambda: results.append(run(provider, server.connection(), "sleep 0.5; echo ok")))
            for _ in range(20)
        ]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (results, time.monotonic() - begun < 9) == (["ok"] * 20, True)

    def test_a_cancelled_run_leaves_a_command_its_time(self, plugins: Path, engine: Engine, server: Server) -> None:
        provider = Provider(plugins / "pulumi-resource-command", engine)
        results: list[str] = []
        command = "echo begun; sleep 0.5; echo done"
        running = threading.Thread(
            target=lambda: results.append(run(provider, server.connection(), command, "remote-cancelled"))
        )
        running.start()
        while not engine.lines("remote-cancelled"):
            time.sleep(0.02)
        provider.cancel()
        running.join()
        provider.interrupt()
        assert results == ["begun\ndone"]


class TestHostKey:
    def test_a_wrong_one(self, provider: Provider, server: Server) -> None:
        connection = server.connection(hostKey=key().export_public_key().decode(), dialErrorLimit=1)
        before = server.connections
        expected = "after 1 failed attempts: ssh: handshake failed: ssh: host key mismatch"
        assert failure(provider, connection) == expected
        assert server.connections == before + 2

    def test_one_of_a_type_that_the_server_lacks(self, provider: Provider, server: Server) -> None:
        other = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
        assert "after 0 failed attempts: ssh: handshake failed: " in failure(provider, server.connection(hostKey=other))

    def test_none_means_no_check(self, provider: Provider, server: Server) -> None:
        assert run(provider, server.connection(hostKey=None)) == "ok"

    def test_one_that_cannot_be_read(self, provider: Provider, server: Server) -> None:
        problem = failure(provider, server.connection(hostKey="ssh-ed25519 nonsense"))
        assert problem.startswith("failed to parse host key: ssh: no key found")


class TestLogin:
    def test_a_wrong_key(self, provider: Provider, server: Server) -> None:
        connection = server.connection(privateKey=key().export_private_key().decode())
        assert failure(provider, connection) == f"after 0 failed attempts: {DENIED.format('none publickey')}"

    def test_no_key_but_the_given_one_is_tried(self, provider: Provider, server: Server) -> None:
        expected = f"after 0 failed attempts: {DENIED.format('none')}"
        assert failure(provider, server.connection(privateKey=None)) == expected

    def test_a_key_that_cannot_be_read(self, provider: Provider, server: Server) -> None:
        assert failure(provider, server.connection(privateKey="nonsense")) == "ssh: no key found"

    def test_the_agent_that_is_named(self, provider: Provider, server: Server, tmp_path: Path) -> None:
        connection = server.connection(privateKey=None, agentSocketPath=str(tmp_path / "agent"))
        expected = f"dial unix {tmp_path}/agent: connect: no such file or directory"
        assert failure(provider, connection) == expected
        with agent(tmp_path / "agent", server.user_key):
            assert run(provider, connection) == "ok"

    def test_the_agent_of_the_environment_is_needed_even_beside_a_key(
        self, plugins: Path, engine: Engine, server: Server, tmp_path: Path
    ) -> None:
        path = tmp_path / "agent"
        provider = Provider(plugins / "pulumi-resource-command", engine, SSH_AUTH_SOCK=str(path))
        expected = f"dial unix {path}: connect: no such file or directory"
        assert failure(provider, server.connection()) == expected
        with agent(path, server.user_key):
            assert run(provider, server.connection(privateKey=None)) == "ok"
        provider.interrupt()


class TestDial:
    def test_an_unreachable_port_fails_within_the_limit(self, provider: Provider, engine: Engine, refused: int) -> None:
        connection = {"host": "127.0.0.1", "port": refused, "user": "root", "dialErrorLimit": 2, "perDialTimeout": 1}
        expected = f"after 2 failed attempts: dial tcp 127.0.0.1:{refused}: connect: connection refused"
        assert failure(provider, connection, name="refused") == expected
        assert engine.lines("refused") == ["Dial 1/2 failed: retrying", "Dial 2/2 failed: retrying"]

    def test_a_connection_that_is_not_answered(self, provider: Provider) -> None:
        with socket.socket() as full:  # its one place in the queue is taken, so that the next connection gets no answer
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            port = full.getsockname()[1]
            with socket.create_connection(("127.0.0.1", port)):
                connection = {
                    "host": "127.0.0.1",
                    "port": port,
                    "user": "root",
                    "dialErrorLimit": 0,
                    "perDialTimeout": 1,
                }
                expected = f"after 0 failed attempts: dial tcp 127.0.0.1:{port}: i/o timeout"
                assert failure(provider, connection) == expected

    def test_a_cancelled_run_waits_no_longer(self, plugins: Path, engine: Engine, refused: int) -> None:
        provider = Provider(plugins / "pulumi-resource-command", engine)
        connection = {"host": "127.0.0.1", "port": refused, "user": "root", "dialErrorLimit": -1, "perDialTimeout": 1}
        failures: list[str] = []
        running = threading.Thread(target=lambda: failures.append(failure(provider, connection, name="forever")))
        running.start()
        while "Dial 2/inf failed: retrying" not in engine.lines("forever"):
            time.sleep(0.02)
        provider.cancel()
        running.join()
        provider.interrupt()
        assert failures == ["context canceled"]


class TestProxy:
    def test_it_is_gone_through(self, provider: Provider, server: Server) -> None:
        before = server.connections
        assert run(provider, server.connection(proxy=server.connection())) == "ok"
        assert server.connections == before + 2
        assert server.forwarded[-1] == ("127.0.0.1", server.port)

    def test_its_host_key_is_checked_before_anything_goes_through_it(self, provider: Provider, server: Server) -> None:
        proxy = server.connection(hostKey=key().export_public_key().decode())
        before = len(server.forwarded)
        expected = "proxy: after 0 failed attempts: ssh: handshake failed: ssh: host key mismatch"
        assert failure(provider, server.connection(proxy=proxy)) == expected
        assert len(server.forwarded) == before

    def test_the_host_key_behind_it_is_checked_too(self, provider: Provider, server: Server) -> None:
        connection = server.connection(hostKey=key().export_public_key().decode(), proxy=server.connection())
        expected = "proxy: after 0 failed attempts: ssh: handshake failed: ssh: host key mismatch"
        assert failure(provider, connection) == expected

    def test_a_machine_that_it_does_not_reach(self, provider: Provider, server: Server, refused: int) -> None:
        connection = server.connection(proxy=server.connection(), port=refused)
        expected = "proxy: after 0 failed attempts: ssh: rejected: connect failed ("
        assert failure(provider, connection).startswith(expected)


class TestCopy:
    def inputs(self, server: Server, source: dict[str, Any], target: str, **more: Any) -> dict[str, Any]:
        return {"connection": secret(server.connection(**more)), "source": source, "remotePath": target}

    def test_a_file_goes_again_when_its_content_or_its_place_changes(
        self, provider: Provider, server: Server, tmp_path: Path
    ) -> None:
        file, there = tmp_path / "package", server.home / "new/folder/there"
        file.write_bytes(b"\0one")
        given = self.inputs(server, asset(file, "1"), "new/folder/there")
        _, outputs = provider.create(COPY, given)
        assert there.read_bytes() == b"\0one"
        assert (outputs["connection"], outputs.get("stdout")) == (given["connection"], None)
        there.unlink()
        provider.update(COPY, outputs, self.inputs(server, asset(file, "1"), "new/folder/there", user="other"))
        assert not there.exists(), "another login needs no other copy"
        file.write_bytes(b"two")
        provider.update(COPY, outputs, self.inputs(server, asset(file, "2"), "new/folder/there"))
        assert there.read_bytes() == b"two"
        provider.update(COPY, outputs, self.inputs(server, asset(file, "1"), "elsewhere"))
        assert (server.home / "elsewhere").read_bytes() == b"two"
        provider.delete(COPY, outputs)
        assert there.exists()

    def test_a_text(self, provider: Provider, server: Server) -> None:
        text = {**asset(Path(), "3"), "path": "", "text": "täxt"}
        provider.create(COPY, self.inputs(server, text, "text"))
        assert (server.home / "text").read_text() == "täxt"

    def test_a_file_goes_into_a_folder(self, provider: Provider, server: Server, tmp_path: Path) -> None:
        (server.home / "folder").mkdir()
        (tmp_path / "file").touch()
        provider.create(COPY, self.inputs(server, asset(tmp_path / "file", "4"), "folder"))
        assert (server.home / "folder/file").exists()

    def test_a_preview_copies_nothing(self, provider: Provider, server: Server, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        provider.create(COPY, self.inputs(server, asset(tmp_path / "file", "5"), "preview"), preview=True)
        assert not (server.home / "preview").exists()

    def test_a_failure(self, provider: Provider, server: Server, tmp_path: Path) -> None:
        with pytest.raises(Failed, match=r"[Nn]o such file or directory"):
            provider.create(COPY, self.inputs(server, asset(tmp_path / "missing", "6"), "x"))
        (server.home / "blocked").touch()
        (tmp_path / "file").touch()
        with pytest.raises(Failed, match=r"^failed to create .* blocked/there: "):
            provider.create(COPY, self.inputs(server, asset(tmp_path / "file", "7"), "blocked/there"))
