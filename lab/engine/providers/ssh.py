"""Runs a command on another machine over ssh, with the connection settings of Pulumi's command provider."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Set
from contextlib import AsyncExitStack
from typing import Any, Final

import asyncssh

from lab.engine.providers.base import ProviderError
from lab.engine.providers.shell import Job, Output
from lab.engine.values import UNKNOWN

_DEFAULTS: Final = {"user": "root", "port": 22, "dialErrorLimit": 10, "perDialTimeout": 15}
_PROXY_OPTIONS: Final = {*_DEFAULTS, "host", "hostKey", "privateKey", "agentSocketPath"}
_OPTIONS: Final = {*_PROXY_OPTIONS, "proxy"}
_READERS: Final = {"hostKey": asyncssh.import_public_key, "privateKey": asyncssh.import_private_key}
_KEEPALIVE: Final = 15
"""Seconds between keepalives; after three unanswered ones the connection counts as lost, so a dead machine shows."""
_FIRST_PAUSE, _PAUSE_FACTOR, _LONGEST_PAUSE = 0.1, 1.5, 5.0


def check_connection(
    connection: Mapping[str, Any], options: Set[str] = _OPTIONS
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the connection with its defaults, and its problems as (path, reason)."""
    given = {key: value for key, value in connection.items() if value is not None}
    unsupported = sorted(set(given) - options)
    problems = [(key, "is not an option of a connection that the embedded engine supports") for key in unsupported]
    if not given.get("host"):
        problems.append(("host", "is required"))
    for key, read in _READERS.items():
        try:
            if given.get(key, UNKNOWN) is not UNKNOWN:
                read(given[key])
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            problems.append((key, f"is not a key that ssh can read: {error}"))
    if isinstance(given.get("proxy"), Mapping):
        given["proxy"], found = check_connection(given["proxy"], _PROXY_OPTIONS)
        problems += [(f"proxy.{key}", reason) for key, reason in found]
    return {**_DEFAULTS, **given}, problems


async def remote(connection: Mapping[str, Any], job: Job, output: Output) -> str:
    """Run a command on a connection of its own; return how it ended, "" for well.

    Raises:
        ProviderError: No connection within the limits, or another host key than the given one.
    """
    async with AsyncExitStack() as opened:
        client = await _reach(connection, job, opened)
        try:
            process = await client.create_process(job.command, encoding=None, env=dict(job.environment))
            await output.take(process.stdin, process.stdout, process.stderr)
            await process.wait_closed()
        except (OSError, asyncssh.Error) as error:
            return f"the connection to {connection['host']} broke: {error}"
    if process.exit_signal:
        return f"Process exited from signal {process.exit_signal[0]}"
    if process.exit_status is None:
        return f"the connection to {connection['host']} ended before the command did"
    return f"Process exited with status {process.exit_status}" if process.exit_status else ""


async def copy(connection: Mapping[str, Any], source: str, target: str, job: Job, output: Output) -> str:
    """Copy a file to another machine on a connection of its own; return how it ended, "" for well.

    Raises:
        ProviderError: No connection within the limits, or another host key than the given one.
    """
    async with AsyncExitStack() as opened:
        client = await _reach(connection, job, opened)
        try:
            async with client.start_sftp_client() as files:
                await files.put(source, target)
        except (OSError, asyncssh.Error) as error:
            return f"the copy to {connection['host']} failed: {error}"
    return ""


async def _reach(connection: Mapping[str, Any], job: Job, opened: AsyncExitStack) -> asyncssh.SSHClientConnection:
    """Connect, through the proxy where there is one."""
    tunnel = None
    if proxy := connection.get("proxy"):
        try:
            tunnel = await _dial(proxy, job, opened)
        except ProviderError as error:
            raise ProviderError(f"proxy: {error}") from None
    return await _dial(connection, job, opened, tunnel)


async def _dial(
    connection: Mapping[str, Any], job: Job, opened: AsyncExitStack, tunnel: asyncssh.SSHClientConnection | None = None
) -> asyncssh.SSHClientConnection:
    """Connect, again and again up to the limit of failures; a wrong host key is final.

    Through a tunnel it is the proxy that connects, for as long as it likes, as with Pulumi's provider.
    """
    host, port, limit = connection["host"], int(connection["port"]), int(connection["dialErrorLimit"])
    keys = {key: read(connection[key]) for key, read in _READERS.items() if connection.get(key)}
    expected = keys.get("hostKey")
    pinned = _PinnedKey()
    options: dict[str, Any] = {
        "username": connection["user"],
        "client_keys": [keys["privateKey"]] if "privateKey" in keys else await _agent_keys(connection, opened) or None,
        "agent_path": None,
        "known_hosts": ([expected], [], []) if expected else None,
        "server_host_key_algs": [expected.get_algorithm()] if expected else (),
        "connect_timeout": None if tunnel else connection["perDialTimeout"] or None,
        "tunnel": tunnel,
        "keepalive_interval": _KEEPALIVE,
        "config": None,
        "client_factory": lambda: pinned,
    }
    failures, pause = 0, _FIRST_PAUSE
    while True:
        try:
            return await opened.enter_async_context(asyncssh.connect(host, port, **options))
        except (OSError, asyncssh.Error) as error:
            reason = _reason(error, connection)
        if pinned.presented is not None and expected is not None:
            raise ProviderError(
                f"host key mismatch: {host}:{port} presented "
                f"{_fingerprint(pinned.presented)}, but {_fingerprint(expected)} is expected; "
                "if the machine was made anew on purpose, update its host key, otherwise find out who answers there"
            )
        failures += 1
        if -1 < limit < failures:
            raise ProviderError(f"after {limit} failed attempts: ssh to {host}:{port}: {reason}")
        job.context.report(f"dial {failures}/{'inf' if limit == -1 else limit} failed: {reason}; retrying")
        await asyncio.sleep(pause)
        pause = min(pause * _PAUSE_FACTOR, _LONGEST_PAUSE)


async def _agent_keys(connection: Mapping[str, Any], opened: AsyncExitStack) -> list[asyncssh.SSHKeyPair]:
    """Return the keys of the given agent or, where there is no key, of that of `SSH_AUTH_SOCK`.

    Pulumi's provider dials the latter even where it has a key; here that would only make lab runs depend on it.
    """
    ambient = None if connection.get("privateKey") else os.environ.get("SSH_AUTH_SOCK")
    path = connection.get("agentSocketPath") or ambient
    if not path:
        return []
    try:
        return list(await (await opened.enter_async_context(asyncssh.connect_agent(path))).get_keys())
    except (OSError, asyncssh.Error) as error:
        raise ProviderError(f"dial unix {path}: {_reason(error, connection)}") from None


class _PinnedKey(asyncssh.SSHClient):
    """Remembers the key of a server whose key is not the expected one."""

    presented: asyncssh.SSHKey | None = None

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Refuse: asked only about keys that are not trusted."""
        self.presented = key
        return False


def _reason(error: Exception, connection: Mapping[str, Any]) -> str:
    match error:
        case TimeoutError():
            return f"no answer within {connection['perDialTimeout']} s"
        case OSError(errno=int(number)):
            return os.strerror(number).lower()
        case asyncssh.PermissionDenied():
            return f"user {connection['user']} could not log in: {error.reason}"
        case asyncssh.KeyExchangeFailed() if connection.get("hostKey"):
            return f"the server has no host key of type {connection['hostKey'].split()[0]}: {error.reason}"
        case asyncssh.ChannelOpenError():
            return f"the proxy could not connect: {error.reason}"
        case asyncssh.ConnectionLost():
            return "the server hung up in the handshake"
        case _:
            return str(error) or type(error).__name__


def _fingerprint(key: asyncssh.SSHKey) -> str:
    return f"{key.get_algorithm()} {key.get_fingerprint()}"
