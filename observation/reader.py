"""Asks every VM, as what has changed on it: one event loop, one connection a VM, one deadline for all.

Host keys are checked and VMs logged in to as for the stack's commands. Private keys stay in this process's memory.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import asyncssh

from hosts.observe import OBSERVE, Found, found
from settings import Connection, Settings
from settings.result import Login

DEADLINE_SECONDS = 9.0
"""For all VMs together; with what Python needs to begin and to end, ten seconds."""
CONNECT_SECONDS = 4.0
"""For the first answer of a machine: one that is off need not cost the whole deadline. Covers two lost packets."""
CLOSE_SECONDS = 0.5
"""How long connections may take to close, after that."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A VM to look at."""

    address: str
    connection: Connection


def targets(settings: Settings, names: Iterable[str]) -> dict[str, Target]:
    """Where the VMs of these names are, and how they are logged in to."""
    vms = {name: vm for workload in settings.workloads.values() for name, vm in workload.vms.items()}
    return {name: Target(address=vms[name].address, connection=settings.connections[name]) for name in names}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a VM said to a command."""

    status: int | None = None
    """The command's exit status; None where it was ended by a signal, or never began."""
    output: str = ""
    errors: str = ""
    unknown: str = ""
    """Why it did not get that far; empty where it did."""


def look(targets: Mapping[str, Target], seconds: float = DEADLINE_SECONDS) -> dict[str, Found]:
    """What is found on each VM."""
    now = datetime.now(UTC)
    return {
        name: Found(unknown=answer.unknown)
        if answer.unknown
        else found(answer.status, answer.output, answer.errors, now=now)
        for name, answer in ask(targets, dict.fromkeys(targets, OBSERVE), seconds).items()
    }


def ask(targets: Mapping[str, Target], commands: Mapping[str, str], seconds: float) -> dict[str, Answer]:
    """What each VM says to its command, in a thread of its own: the caller may itself be run by an event loop."""
    if not targets:
        return {}
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(_ask_all(targets, commands, seconds))).result()


async def _ask_all(targets: Mapping[str, Target], commands: Mapping[str, str], seconds: float) -> dict[str, Answer]:
    end = asyncio.get_running_loop().time() + seconds
    async with AsyncExitStack() as opened:
        ways = _Ways(opened)
        answers = await asyncio.gather(
            *(_ask(target, commands[name], ways, end, seconds) for name, target in targets.items())
        )
    return dict(zip(targets, answers, strict=True))


async def _ask(target: Target, command: str, ways: _Ways, end: float, seconds: float) -> Answer:
    try:
        async with asyncio.timeout_at(end):
            client = await ways.to(target)
            done = await client.run(command, check=False, errors="replace", stdin=asyncssh.DEVNULL)
    except (OSError, asyncssh.Error, ValueError) as error:
        reason = _reason(error, target.connection, seconds)
    else:
        return Answer(status=done.exit_status, output=str(done.stdout), errors=str(done.stderr))
    return Answer(unknown=f"ssh to {target.address}:{target.connection.port}: {reason}")


class _Ways:
    """Connections to VMs. Those through one bastion share one to it, and all who use one agent share that."""

    def __init__(self, opened: AsyncExitStack) -> None:
        self._opened = opened
        self._shared: dict[Any, asyncio.Task[Any]] = {}

    async def to(self, target: Target) -> asyncssh.SSHClientConnection:
        """Return a connection to a VM; the time it takes is limited by the caller."""
        bastion, tunnel = target.connection.bastion, None
        if bastion is not None:
            way = (bastion.host, bastion.port, bastion.user)
            tunnel = await self._once(way, lambda: self._dial(bastion.host, bastion, None))
        return await self._dial(target.address, target.connection, tunnel)

    async def _dial(
        self, host: str, login: Login, tunnel: asyncssh.SSHClientConnection | None
    ) -> asyncssh.SSHClientConnection:
        host_key = asyncssh.import_public_key(login.host_key)
        client = await asyncssh.connect(
            host,
            login.port,
            username=login.user,
            client_keys=await self._keys(login) or None,
            agent_path=None,
            known_hosts=([host_key], [], []),
            server_host_key_algs=[host_key.get_algorithm()],
            tunnel=tunnel,
            sock=None if tunnel else await _connected(host, login.port),
            config=None,
        )
        self._opened.push_async_callback(_close, client)
        return client

    async def _keys(self, login: Login) -> list[Any]:
        if not login.agent:
            return [_imported(login.private_key.get_secret_value())]
        path = login.agent_socket or os.environ.get("SSH_AUTH_SOCK") or ""

        async def ask() -> list[asyncssh.SSHKeyPair]:
            agent = await self._opened.enter_async_context(asyncssh.connect_agent(path))
            return list(await agent.get_keys())

        keys: list[Any] = await self._once(path, ask)
        return keys

    async def _once(self, key: Any, make: Callable[[], Awaitable[Any]]) -> Any:
        """Return what `make` makes for the first who asks; one who gives up takes it from nobody else."""
        if key not in self._shared:
            self._shared[key] = asyncio.ensure_future(make())
        return await asyncio.shield(self._shared[key])


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


def _reason(error: Exception, connection: Connection, seconds: float) -> str:
    match error:
        case OSError(errno=int(number)):
            return os.strerror(number).lower()
        case TimeoutError():
            return str(error) or f"no answer within {seconds:g} s"
        case asyncssh.PermissionDenied():
            return f"user {connection.user} could not log in"
        case asyncssh.HostKeyNotVerifiable():
            return "another host key than the one that is expected"
        case asyncssh.ConnectionLost():
            return "the server hung up"
        case _:
            return str(error) or type(error).__name__
