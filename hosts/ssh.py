"""The program's own ssh client: one connection for a conversation with one VM, or one question to each of many.

Host keys are checked and VMs logged in to as for the stack's commands. Private keys stay in this process's memory.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncssh

from hosts.login import AGENT_VARIABLE, SshLogin, SshTarget

CONNECT_SECONDS = 4.0
"""For the first answer of a machine: one that is off need not cost the whole deadline. Covers two lost packets."""
LOGIN_SECONDS = 20.0
"""For a connection that a conversation begins with, through a bastion or not."""
CLOSE_SECONDS = 0.5
"""How long connections may take to close, after that."""
HANG_UPS = 8
"""How many times a server may hang up before the login, over 10 s: sshd drops connections at random while many log in
at once (MaxStartups 10:30:100)."""


class SshError(Exception):
    """A VM could not be talked to; the message says which and why."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a VM said to a command."""

    status: int | None = None
    """The command's exit status; None where it was ended by a signal, or never began."""
    output: str = ""
    errors: str = ""
    unknown: str = ""
    """Why it did not get that far; empty where it did."""


class Conversation:
    """An open connection to one VM."""

    def __init__(self, target: SshTarget, client: asyncssh.SSHClientConnection) -> None:
        self._target, self._client = target, client

    async def run(self, command: str, *, stdin: bytes = b"", seconds: float) -> Answer:
        """What the VM says to a command.

        Args:
            command: For its shell.
            stdin: The command's standard input; may be secret.
            seconds: How long it may take.

        Raises:
            SshError: The connection broke, or the time ran out.
        """
        try:
            async with asyncio.timeout(seconds):
                # Without a byte of input, the library would leave the command's standard input open.
                source: Any = {"input": stdin} if stdin else {"stdin": asyncssh.DEVNULL}
                done = await self._client.run(command, check=False, encoding=None, **source)
        except (OSError, asyncssh.Error) as error:
            raise SshError(_problem(error, self._target, seconds)) from None
        return Answer(status=done.exit_status, output=_text(done.stdout), errors=_text(done.stderr))


@asynccontextmanager
async def conversation(target: SshTarget) -> AsyncIterator[Conversation]:
    """A connection to one VM, for as many commands as it takes.

    Raises:
        SshError: The VM cannot be logged in to.
    """
    async with AsyncExitStack() as opened:
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                client = await _patiently(lambda: _Connections(opened).to(target))
        except (OSError, asyncssh.Error, ValueError) as error:
            raise SshError(_problem(error, target, LOGIN_SECONDS)) from None
        yield Conversation(target, client)


def ask(targets: Mapping[str, SshTarget], commands: Mapping[str, str], seconds: float) -> dict[str, Answer]:
    """What each VM says to its command, all at once, in a thread of its own: an event loop may run the caller."""
    if not targets:
        return {}
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(_ask_all(targets, commands, seconds))).result()


async def _ask_all(targets: Mapping[str, SshTarget], commands: Mapping[str, str], seconds: float) -> dict[str, Answer]:
    end = asyncio.get_running_loop().time() + seconds
    async with AsyncExitStack() as opened:
        connections = _Connections(opened)
        answers = await asyncio.gather(
            *(_ask(target, commands[name], connections, end, seconds) for name, target in targets.items())
        )
    return dict(zip(targets, answers, strict=True))


async def _ask(target: SshTarget, command: str, connections: _Connections, end: float, seconds: float) -> Answer:
    try:
        async with asyncio.timeout_at(end):
            client = await connections.to(target)
            done = await client.run(command, check=False, errors="replace", stdin=asyncssh.DEVNULL)
    except (OSError, asyncssh.Error, ValueError) as error:
        return Answer(unknown=_problem(error, target, seconds))
    return Answer(status=done.exit_status, output=str(done.stdout), errors=str(done.stderr))


class _Connections:
    """Connections to VMs. Those through one bastion share one to it, and all who use one agent share that."""

    def __init__(self, opened: AsyncExitStack) -> None:
        self._opened = opened
        self._shared: dict[Any, asyncio.Task[Any]] = {}

    async def to(self, target: SshTarget) -> asyncssh.SSHClientConnection:
        """Return a connection to a VM; the time it takes is limited by the caller."""
        bastion, tunnel = target.bastion, None
        if bastion is not None:
            tunnel = await self._once((bastion.host, bastion.port, bastion.user), lambda: self._dial(bastion, None))
        return await self._dial(target.vm, tunnel)

    async def _dial(self, login: SshLogin, tunnel: asyncssh.SSHClientConnection | None) -> asyncssh.SSHClientConnection:
        host_key = asyncssh.import_public_key(login.host_key)
        client = await asyncssh.connect(
            login.host,
            login.port,
            username=login.user,
            client_keys=await self._keys(login) or None,
            agent_path=None,
            known_hosts=([host_key], [], []),
            server_host_key_algs=[host_key.get_algorithm()],
            tunnel=tunnel,
            sock=None if tunnel else await _connected(login.host, login.port),
            config=None,
        )
        self._opened.push_async_callback(_close, client)
        return client

    async def _keys(self, login: SshLogin) -> list[Any]:
        if login.private_key is not None:
            return [_imported(login.private_key)]
        path = login.agent_socket or os.environ.get(AGENT_VARIABLE) or ""

        async def from_agent() -> list[asyncssh.SSHKeyPair]:
            agent = await self._opened.enter_async_context(asyncssh.connect_agent(path))
            return list(await agent.get_keys())

        keys: list[Any] = await self._once(path, from_agent)
        return keys

    async def _once(self, key: Any, make: Callable[[], Awaitable[Any]]) -> Any:
        """Return what `make` makes for the first who asks; one who gives up takes it from nobody else."""
        if key not in self._shared:
            self._shared[key] = asyncio.ensure_future(make())
        return await asyncio.shield(self._shared[key])


async def _patiently(
    dial: Callable[[], Awaitable[asyncssh.SSHClientConnection]],
) -> asyncssh.SSHClientConnection:
    """A connection, tried again where the server hangs up before the login."""
    for tried in range(HANG_UPS):
        try:
            return await dial()
        except (asyncssh.ConnectionLost, ConnectionResetError):
            await asyncio.sleep(min(0.2 * 1.5**tried, 2))
    return await dial()


async def _connected(host: str, port: int) -> socket.socket | None:
    """A socket with a connection to an IP address; none to a name, which is looked up elsewhere."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        return None
    connection = socket.socket(family)
    connection.setblocking(False)
    try:
        async with asyncio.timeout(CONNECT_SECONDS) as limit:
            await asyncio.get_running_loop().sock_connect(connection, (host, port))
    except BaseException as error:
        connection.close()
        if isinstance(error, TimeoutError) and limit.expired():
            raise TimeoutError(f"no answer within {CONNECT_SECONDS:g} s") from None
        raise
    return connection


async def _close(client: asyncssh.SSHClientConnection) -> None:
    client.close()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await client.wait_closed()
    except TimeoutError:
        client.abort()


@functools.cache
def _imported(private_key: str) -> asyncssh.SSHKey:
    if not private_key:
        raise ValueError("its private key is encrypted in the stack file, which only Pulumi can read")
    return asyncssh.import_private_key(private_key)


def _text(printed: bytes | str | None) -> str:
    return printed.decode(errors="replace") if isinstance(printed, bytes) else printed or ""


def _problem(error: Exception, target: SshTarget, seconds: float) -> str:
    return f"ssh to {target.place}: {_reason(error, target, seconds)}"


def _reason(error: Exception, target: SshTarget, seconds: float) -> str:
    match error:
        case OSError(errno=int(number)):
            return os.strerror(number).lower()
        case TimeoutError():
            return str(error) or f"no answer within {seconds:g} s"
        case asyncssh.PermissionDenied():
            return f"user {target.vm.user} could not log in"
        case asyncssh.HostKeyNotVerifiable():
            return "another host key than the one that is expected"
        case asyncssh.ConnectionLost():
            return "the server hung up"
        case _:
            return str(error) or type(error).__name__
