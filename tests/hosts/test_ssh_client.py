"""The program's ssh client, against real ssh servers in this process: in parallel, verified, and within deadlines."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import asyncssh
import pytest
from waiting import wait_for

from hosts import ssh
from hosts.login import SshLogin, SshTarget
from hosts.observe import OBSERVE, Found
from hosts.ssh import Answer, SshError, ask, conversation
from observation.reader import look

HOST_KEY, OTHER_KEY, USER_KEY, STRANGER = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(4))
ANSWER = "123 45\nrecord as it was\nend\n"


def public(key: asyncssh.SSHKey) -> str:
    return " ".join(key.export_public_key().decode().split()[:2])


class Server:
    """VMs of a test: all at one address, each with a port and what it says to the command that looks."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.logins = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._servers: list[Any] = []
        self._connections: list[asyncssh.SSHServerConnection] = []

    def start(self, seconds: float = 0, *, silent: bool = False) -> int:
        """Return the port of a new VM, which takes so long for an answer, or never says a word."""

        async def answer(process: asyncssh.SSHServerProcess[str]) -> None:
            self.commands.append(process.command or "")
            await asyncio.sleep(seconds)
            if process.command == "count":
                process.stdout.write(f"{len(await process.stdin.read())} bytes")
                process.stderr.write("all of them")
                process.exit(3)
                return
            process.stdout.write(ANSWER)
            process.exit(0)

        async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            finally:
                writer.close()

        async def listen() -> int:
            if silent:
                server = await asyncio.start_server(swallow, "127.0.0.1", 0)
                self._servers.append(server)
                return int(server.sockets[0].getsockname()[1])
            acceptor = await asyncssh.create_server(
                lambda: self._Login(self),
                "127.0.0.1",
                0,
                server_host_keys=[HOST_KEY],
                authorized_client_keys=asyncssh.import_authorized_keys(public(USER_KEY)),
                process_factory=answer,
            )
            self._servers.append(acceptor)
            return int(acceptor.get_port())

        return asyncio.run_coroutine_threadsafe(listen(), self._loop).result(10)

    class _Login(asyncssh.SSHServer):
        def __init__(self, server: Server) -> None:
            self._server = server

        def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
            self._server._connections.append(conn)

        def auth_completed(self) -> None:
            self._server.logins += 1

        def connection_requested(self, host: str, port: int, *origin: Any) -> bool:
            return True

    def stop(self) -> None:
        async def close() -> None:
            for server in self._servers:
                server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            for connection in self._connections:
                connection.abort()
            await asyncio.gather(*(conn.wait_closed() for conn in self._connections), return_exceptions=True)
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    try:
        yield running
    finally:
        running.stop()


def target(
    port: int, *, host_key: asyncssh.SSHKey = HOST_KEY, key: asyncssh.SSHKey = USER_KEY, bastion: SshLogin | None = None
) -> SshTarget:
    private = key.export_private_key().decode()
    login = SshLogin(host="127.0.0.1", user="root", port=port, host_key=public(host_key), private_key=private)
    return SshTarget(vm=login, bastion=bastion)


def test_all_are_asked_at_once_by_one_connection_each(server: Server) -> None:
    targets = {f"vm-{n}": target(server.start(2)) for n in range(4)}
    begin = time.monotonic()
    assert look(targets) == dict.fromkeys(targets, Found(record=("as it was",)))
    assert time.monotonic() - begin < 8
    assert server.commands == [OBSERVE] * 4
    assert server.logins == 4


def test_one_that_hangs_costs_the_deadline_and_nothing_from_the_others(server: Server) -> None:
    silent, slow = server.start(silent=True), server.start(30)
    targets = {"silent": target(silent), "slow": target(slow), "good": target(server.start())}
    begin = time.monotonic()
    found = look(targets, seconds=3)
    assert time.monotonic() - begin < 20
    assert found["good"] == Found(record=("as it was",))
    assert found["silent"] == Found(unknown=f"ssh to 127.0.0.1:{silent}: no answer within 3 s")
    assert found["slow"] == Found(unknown=f"ssh to 127.0.0.1:{slow}: no answer within 3 s")


def test_a_machine_that_is_off_costs_less(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "CONNECT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        with socket.create_connection(address):  # the queue is full, and the kernel answers nobody else
            begin = time.monotonic()
            found = look({"off": target(address[1]), "good": target(server.start())}, seconds=30)
            assert time.monotonic() - begin < 20
    assert found["off"] == Found(unknown=f"ssh to 127.0.0.1:{address[1]}: no answer within 1 s")
    assert found["good"] == Found(record=("as it was",))


def test_who_cannot_be_trusted_or_does_not_trust_is_reported(server: Server) -> None:
    port = server.start()
    found = look(
        {
            "other": target(port, host_key=OTHER_KEY),
            "stranger": target(port, key=STRANGER),
            "off": target(1),
            "sealed": SshTarget(
                vm=SshLogin(host="127.0.0.1", user="root", port=1, host_key=public(HOST_KEY), private_key="")
            ),
        }
    )
    assert {name: vm.unknown.partition(": ")[2] for name, vm in found.items()} == {
        "other": "another host key than the one that is expected",
        "stranger": "user root could not log in",
        "off": "connection refused",
        "sealed": "its private key is encrypted in the stack file, which only Pulumi can read",
    }
    assert server.commands == []


def test_any_command_can_be_asked(server: Server) -> None:
    port = server.start()
    found = ask({"good": target(port), "off": target(1)}, {"good": "uptime", "off": "uptime"}, 5)
    assert found == {
        "good": Answer(status=0, output=ANSWER),
        "off": Answer(unknown="ssh to 127.0.0.1:1: connection refused"),
    }
    assert server.commands == ["uptime"]


def test_vms_behind_a_bastion_share_one_connection_to_it(server: Server) -> None:
    private = USER_KEY.export_private_key().decode()
    bastion = SshLogin(
        host="127.0.0.1", user="jump", port=server.start(), host_key=public(HOST_KEY), private_key=private
    )
    targets = {f"vm-{n}": target(server.start(), bastion=bastion) for n in range(3)}
    assert look(targets) == dict.fromkeys(targets, Found(record=("as it was",)))
    assert server.logins == 4


def test_it_can_be_called_by_what_an_event_loop_runs(server: Server) -> None:
    """As Pulumi's SDK runs the program."""
    port = server.start()

    async def program() -> dict[str, Found]:
        return look({"vm": target(port)})

    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(program()) == {"vm": Found(record=("as it was",))}
    loop.close()


def converse(place: SshTarget, command: str, stdin: bytes = b"", seconds: float = 10) -> list[Answer]:
    async def twice() -> list[Answer]:
        async with conversation(place) as vm:
            return [await vm.run(command, stdin=stdin, seconds=seconds) for _ in range(2)]

    return wait_for(twice())


def test_a_conversation_is_one_connection_for_all_its_commands(server: Server) -> None:
    content = b"line\n" * 200_000
    answer = Answer(status=3, output=f"{len(content)} bytes", errors="all of them")
    assert converse(target(server.start()), "count", content) == [answer, answer]
    assert server.logins == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key": STRANGER}, "user root could not log in"),
        ({"host_key": OTHER_KEY}, "another host key than the one that is expected"),
        ({}, "no answer within 0.5 s"),
    ],
)
def test_a_conversation_that_fails_says_where_and_why(server: Server, changes: Any, reason: str) -> None:
    port = server.start(30)
    with pytest.raises(SshError) as raised:
        converse(target(port, **changes), "count", seconds=0.5)
    assert str(raised.value) == f"ssh to 127.0.0.1:{port}: {reason}"


def test_a_server_that_hangs_up_before_the_login_is_dialled_again(server: Server) -> None:
    """As sshd does while many log in at once."""
    behind = server.start()
    refused = 0

    async def main() -> Answer:
        async def gate(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal refused
            if refused < 2:
                refused += 1
                writer.close()
                return
            to_server, from_here = await asyncio.open_connection("127.0.0.1", behind)
            await asyncio.gather(_pipe(reader, from_here), _pipe(to_server, writer))

        listener = await asyncio.start_server(gate, "127.0.0.1", 0)
        async with listener, conversation(target(listener.sockets[0].getsockname()[1])) as vm:
            return await vm.run("uptime", seconds=10)

    assert wait_for(main()) == Answer(status=0, output=ANSWER)
    assert refused == 2


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
    finally:
        sink.close()
