"""The command provider's remote commands, over a real ssh server: by key or agent, straight or through a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from lab.engine.providers.base import CheckError, Context, ProviderError
from lab.engine.providers.command import REMOTE, CommandProvider
from lab.engine.values import Secret

PROVIDER = CommandProvider({})
URN = "urn:pulumi:dev::p::command:remote:Command::hello"


def context(**options: Any) -> Context:
    return Context(urn=URN, **options)


@dataclass
class Server:
    """An ssh server on the loopback interface that runs commands with /bin/sh, in a thread of its own."""

    host_key: asyncssh.SSHKey
    user_key: asyncssh.SSHKey
    port: int = 0
    connections: int = 0
    forwarded: list[tuple[str, int]] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)
    sessions: set[asyncio.Task[None]] = field(default_factory=set)

    def connection(self, **more: Any) -> dict[str, Any]:
        given = {
            "host": "127.0.0.1",
            "port": self.port,
            "privateKey": self.user_key.export_private_key().decode(),
            "hostKey": self.host_key.export_public_key().decode(),
            "dialErrorLimit": 1,
            "perDialTimeout": 5,
        }
        return PROVIDER.check(REMOTE, None, {"connection": given | more}, name="n")["connection"]

    async def handle(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        session = asyncio.current_task()
        assert session is not None
        self.sessions.add(session)
        session.add_done_callback(self.sessions.discard)
        self.seen.append(dict(process.env))
        assert process.command is not None
        shell = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            process.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert shell.stdin and shell.stdout and shell.stderr

        async def feed() -> None:
            with contextlib.suppress(OSError):
                while data := await process.stdin.read(65536):
                    shell.stdin.write(data)
                    await shell.stdin.drain()
            shell.stdin.close()

        async def pump(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()

        feeding = asyncio.create_task(feed())
        try:
            with contextlib.suppress(OSError):  # the client gave up
                await asyncio.gather(pump(shell.stdout, process.stdout), pump(shell.stderr, process.stderr))
            status = await shell.wait()
        except asyncio.CancelledError:  # the tests are over, this command is one that hangs
            os.killpg(shell.pid, signal.SIGKILL)
            await asyncio.gather(shell.communicate(), return_exceptions=True)
            raise
        finally:
            feeding.cancel()
        if status < 0:
            process.exit_with_signal("TERM")
        else:
            process.exit(status)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    result = Server(asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519"))

    class Accept(asyncssh.SSHServer):
        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            result.connections += 1

        def connection_requested(self, dest_host: str, dest_port: int, *_: Any) -> bool:
            result.forwarded.append((dest_host, dest_port))
            return True

    async def listen() -> asyncssh.SSHAcceptor:
        keys = asyncssh.import_authorized_keys(result.user_key.export_public_key().decode())
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=Accept,
            server_host_keys=[result.host_key],
            authorized_client_keys=keys,
            process_factory=result.handle,
            encoding=None,
        )

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    acceptor = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    result.port = acceptor.get_port()
    yield result

    async def close() -> None:
        for session in result.sessions:
            session.cancel()
        await asyncio.gather(*result.sessions, return_exceptions=True)
        acceptor.close()
        await asyncio.sleep(0.05)

    asyncio.run_coroutine_threadsafe(close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def agent(server: Server, tmp_path: Path) -> Iterator[str]:
    """The socket of an ssh agent that holds the user's key (draft-ietf-sshm-ssh-agent)."""
    key, path = server.user_key, str(tmp_path / "agent")

    def text(data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + data

    class Answers(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.read(4):
                request = self.rfile.read(struct.unpack(">I", head)[0])
                if request[0] == 11:  # which keys?
                    answer = b"\x0c\0\0\0\x01" + text(key.public_data) + text(b"a comment")
                else:  # sign this
                    begin = 5 + len(key.public_data)
                    (length,) = struct.unpack_from(">I", request, begin)
                    answer = b"\x0e" + text(key.sign(request[begin + 4 : begin + 4 + length], b"ssh-ed25519"))
                self.wfile.write(text(answer))

    with socketserver.ThreadingUnixStreamServer(path, Answers) as listener:
        listener.daemon_threads = True
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        yield path
        listener.shutdown()
        thread.join()


class TestRemote:
    def test_create_update_delete(self, server: Server, tmp_path: Path) -> None:
        inputs = {
            "connection": server.connection(),
            "create": "cat; echo err >&2",
            "update": "echo updated",
            "delete": f"cat > {tmp_path}/gone",
            "stdin": "given",
        }
        _, outputs = PROVIDER.create(REMOTE, inputs, context())
        assert (outputs["stdout"], outputs["stderr"]) == ("given", "err")
        assert outputs["connection"] == Secret(inputs["connection"])
        outputs = PROVIDER.update(REMOTE, "i", inputs, outputs, inputs, context())
        assert outputs["stdout"] == "updated"
        assert server.seen[-1] == {"PULUMI_COMMAND_STDOUT": "given", "PULUMI_COMMAND_STDERR": "err"}
        PROVIDER.delete(REMOTE, "i", inputs, outputs, context())
        assert (tmp_path / "gone").read_text() == "given"

    def test_failure_shows_status_command_and_output(self, server: Server) -> None:
        inputs = {"connection": server.connection(), "create": "echo out; sleep 0.2; echo err >&2; exit 7"}
        with pytest.raises(ProviderError) as failure:
            PROVIDER.create(REMOTE, inputs, context())
        assert str(failure.value) == f'Process exited with status 7: running "{inputs["create"]}":\nout\nerr\n'

    def test_signal(self, server: Server) -> None:
        with pytest.raises(ProviderError, match="Process exited from signal TERM"):
            PROVIDER.create(REMOTE, {"connection": server.connection(), "create": "kill $$"}, context())

    def test_lines_longer_than_any_buffer(self, server: Server) -> None:
        lines: list[str] = []
        inputs = {"connection": server.connection(), "create": "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo end"}
        _, outputs = PROVIDER.create(REMOTE, inputs, context(report=lines.append))
        assert outputs["stdout"] == "x" * 3_000_000 + "\nend"
        assert [len(line) for line in lines] == [3_000_000, 3]

    def test_input_that_the_command_does_not_read(self, server: Server) -> None:
        inputs = {"connection": server.connection(), "create": "echo done", "stdin": "x" * 3_000_000}
        assert PROVIDER.create(REMOTE, inputs, context())[1]["stdout"] == "done"

    def test_hanging_command_ends_by_its_own_deadline(self, server: Server) -> None:
        inputs = {"connection": server.connection(), "create": "timeout 0.2 sleep 60"}
        with pytest.raises(ProviderError, match="exited with status 124"):
            PROVIDER.create(REMOTE, inputs, context())

    def test_hanging_command_ends_by_the_custom_timeout(self, server: Server) -> None:
        with pytest.raises(ProviderError, match=r"timed out after 2 s: running .*\n.*begun"):
            inputs = {"connection": server.connection(), "create": "echo begun; exec timeout --foreground 60 sleep 60"}
            PROVIDER.create(REMOTE, inputs, context(timeout=2.0))

    def test_interrupt_ends_the_wait(self, server: Server) -> None:
        cancelled = threading.Event()
        cancelled.set()
        with pytest.raises(ProviderError, match="interrupted"):
            inputs = {"connection": server.connection(), "create": "timeout --foreground 5 sleep 60"}
            PROVIDER.create(REMOTE, inputs, context(cancelled=cancelled))

    def test_wrong_host_key_is_final_and_names_both(self, server: Server) -> None:
        other = asyncssh.generate_private_key("ssh-ed25519")
        connection = server.connection(hostKey=other.export_public_key().decode(), dialErrorLimit=5)
        before = server.connections
        with pytest.raises(ProviderError, match="host key mismatch") as failure:
            PROVIDER.create(REMOTE, {"connection": connection, "create": "true"}, context())
        assert server.host_key.get_fingerprint() in str(failure.value)
        assert other.get_fingerprint() in str(failure.value)
        assert server.connections == before + 1

    def test_host_key_of_a_type_that_the_server_lacks(self, server: Server) -> None:
        other = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
        with pytest.raises(ProviderError, match=r"no host key of type ecdsa|hung up in the handshake"):
            connection = server.connection(hostKey=other, dialErrorLimit=0)
            PROVIDER.create(REMOTE, {"connection": connection, "create": "true"}, context())

    def test_no_host_key_means_no_check(self, server: Server) -> None:
        connection = server.connection(hostKey=None)
        assert PROVIDER.create(REMOTE, {"connection": connection, "create": "echo ok"}, context())[1]["stdout"] == "ok"

    def test_wrong_user_key(self, server: Server) -> None:
        key = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
        with pytest.raises(ProviderError, match="user root could not log in"):
            connection = server.connection(privateKey=key, dialErrorLimit=0)
            PROVIDER.create(REMOTE, {"connection": connection, "create": "true"}, context())

    def test_private_key_that_cannot_be_read(self, server: Server) -> None:
        key = server.user_key.export_private_key("pkcs8-pem", passphrase="pass").decode()
        with pytest.raises(CheckError, match=r"connection\.privateKey: is not a key that ssh can read"):
            server.connection(privateKey=key)

    def test_no_key_but_the_given_one_is_tried(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        connection = server.connection(privateKey=None, dialErrorLimit=0)
        with pytest.raises(ProviderError, match="user root could not log in"):
            PROVIDER.create(REMOTE, {"connection": connection, "create": "true"}, context())

    @pytest.mark.parametrize("ambient", [True, False])
    def test_an_agent_holds_the_key(
        self, server: Server, agent: str, ambient: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSH_AUTH_SOCK", agent if ambient else "/nowhere")
        connection = server.connection(privateKey=None, agentSocketPath=None if ambient else agent)
        assert PROVIDER.create(REMOTE, {"connection": connection, "create": "echo ok"}, context())[1]["stdout"] == "ok"

    def test_an_agent_that_is_not_there_is_named_and_only_asked_without_a_key(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSH_AUTH_SOCK", "/nowhere")
        PROVIDER.create(REMOTE, {"connection": server.connection(), "create": "true"}, context())
        with pytest.raises(ProviderError) as failure:
            PROVIDER.create(REMOTE, {"connection": server.connection(privateKey=None), "create": "true"}, context())
        assert str(failure.value) == "dial unix /nowhere: no such file or directory"

    def test_a_proxy_is_gone_through(self, server: Server) -> None:
        before = server.connections
        connection = server.connection(proxy=server.connection())
        _, outputs = PROVIDER.create(REMOTE, {"connection": connection, "create": "echo ok"}, context())
        assert outputs["stdout"] == "ok"
        assert server.connections == before + 2
        assert server.forwarded[-1] == ("127.0.0.1", server.port)

    def test_the_host_key_of_a_proxy_is_checked_before_anything_goes_through_it(self, server: Server) -> None:
        other = asyncssh.generate_private_key("ssh-ed25519")
        proxy = server.connection(hostKey=other.export_public_key().decode())
        before = len(server.forwarded)
        with pytest.raises(ProviderError, match=r"^proxy: host key mismatch: 127\.0\.0\.1:") as failure:
            PROVIDER.create(REMOTE, {"connection": server.connection(proxy=proxy), "create": "true"}, context())
        assert other.get_fingerprint() in str(failure.value)
        assert len(server.forwarded) == before

    def test_a_machine_that_the_proxy_does_not_reach(self, server: Server) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        connection = server.connection(proxy=server.connection(), port=port, dialErrorLimit=0)
        with pytest.raises(ProviderError) as failure:
            PROVIDER.create(REMOTE, {"connection": connection, "create": "true"}, context())
        expected = f"after 0 failed attempts: ssh to 127.0.0.1:{port}: the proxy could not connect: "
        assert str(failure.value).startswith(expected)

    def test_unreachable_port_fails_within_the_limit(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        reports: list[str] = []
        connection = {"host": "127.0.0.1", "port": port, "dialErrorLimit": 2, "perDialTimeout": 1, "user": "root"}
        with pytest.raises(ProviderError) as failure:
            PROVIDER.create(REMOTE, {"connection": connection, "create": "true"}, context(report=reports.append))
        assert str(failure.value) == f"after 2 failed attempts: ssh to 127.0.0.1:{port}: connection refused"
        assert len(reports) == 2

    def test_silent_port_fails_within_the_dial_timeout(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            connection = {"host": "127.0.0.1", "port": port, "dialErrorLimit": 0, "perDialTimeout": 0.2, "user": "root"}
            with pytest.raises(ProviderError, match=r"no answer within 0\.2 s"):
                PROVIDER.create(REMOTE, {"connection": connection, "create": "true"}, context())
