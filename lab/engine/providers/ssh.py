"""Runs a command on another machine over ssh, with the connection settings of Pulumi's command provider.

All connections live on one event loop in a background thread, so that the engine's threads can just call `run_remote`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, Final

import asyncssh

from lab.engine.providers.base import ProviderError
from lab.engine.providers.shell_result import Job, Output
from lab.engine.values import UNKNOWN

_DEFAULTS: Final = {"user": "root", "port": 22, "dialErrorLimit": 10, "perDialTimeout": 15}
_OPTIONS: Final = {*_DEFAULTS, "host", "hostKey", "password", "privateKey", "privateKeyPassword", "agentSocketPath"}
_KEEPALIVE: Final = 15
"""Seconds between keepalives; after three unanswered ones the connection counts as lost, so a dead machine shows."""
_FIRST_PAUSE, _PAUSE_FACTOR, _LONGEST_PAUSE = 0.1, 1.5, 5.0


def check_connection(
    connection: Mapping[str, Any], *, proxy: bool = False
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return the connection with its defaults, and its problems as (path, reason)."""
    given = {key: value for key, value in connection.items() if value is not None}
    problems = [
        (key, "is not an option of a connection")
        for key in sorted(set(given) - _OPTIONS - (set() if proxy else {"proxy"}))
    ]
    if not given.get("host"):
        problems.append(("host", "is required"))
    if isinstance(given.get("proxy"), Mapping) and not proxy:
        given["proxy"], found = check_connection(given["proxy"], proxy=True)
        problems += [(f"proxy.{key}", reason) for key, reason in found]
    readers: dict[str, Callable[[], Any]] = {
        "hostKey": lambda: asyncssh.import_public_key(given["hostKey"]),
        "privateKey": lambda: _private_key(given),
    }
    for key, read in readers.items():
        if UNKNOWN in (given.get(key), given.get("privateKeyPassword")) or key not in given:
            continue
        try:
            read()
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            problems.append((key, f"is not a key that ssh can read: {error}"))
    return {**_DEFAULTS, **given}, problems


def run_remote(connection: Mapping[str, Any], job: Job) -> tuple[str, str]:
    """Run a command to its end on one connection of its own and return (stdout, stderr).

    Raises:
        ProviderError: No connection within the limits, another host key than the given one, the command failed,
            took longer than `job.timeout`, or the run was interrupted.
    """
    output = Output(job)
    future = asyncio.run_coroutine_threadsafe(_session(connection, job, output), _loop())
    deadline = None if job.timeout is None else time.monotonic() + job.timeout
    while not concurrent.futures.wait([future], 0.2).done:
        late = deadline is not None and time.monotonic() > deadline
        if late or job.cancelled.is_set():
            future.cancel()
            raise output.error(f"timed out after {job.timeout:g} s" if late else "interrupted")
    return future.result()


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="ssh", daemon=True).start()
    return loop


async def _session(connection: Mapping[str, Any], job: Job, output: Output) -> tuple[str, str]:
    async with AsyncExitStack() as stack:
        tunnel = None
        if connection.get("proxy"):
            keys = await _agent_keys(connection["proxy"], stack)
            tunnel = await stack.enter_async_context(await _dial(connection["proxy"], job, keys, "proxy: "))
        keys = await _agent_keys(connection, stack)
        client = await stack.enter_async_context(await _dial(connection, job, keys, "", tunnel))
        try:
            process = await client.create_process(job.command, encoding=None, env=dict(job.environment))
            with suppress(OSError):  # a command need not read its input
                process.stdin.write(job.stdin.encode())
                process.stdin.write_eof()
            await asyncio.gather(_drain(process.stdout, output, 0), _drain(process.stderr, output, 1))
            await process.wait_closed()
        except (OSError, asyncssh.Error) as error:
            raise output.error(f"the connection to {connection['host']} broke: {error}") from None
    if process.exit_signal:
        raise output.error(f"Process exited from signal {process.exit_signal[0]}")
    if process.exit_status is None:
        raise output.error(f"the connection to {connection['host']} ended before the command did")
    if process.exit_status:
        raise output.error(f"Process exited with status {process.exit_status}")
    return output.texts()


async def _drain(reader: asyncssh.SSHReader[bytes], output: Output, stream: int) -> None:
    while data := await reader.read(65536):
        output.add(stream, data)


async def _agent_keys(connection: Mapping[str, Any], stack: AsyncExitStack) -> Sequence[asyncssh.SSHKeyPair]:
    """Return the keys of the ssh agent that is asked besides the private key, if there is any."""
    path = connection.get("agentSocketPath") or os.environ.get("SSH_AUTH_SOCK")
    if not path:
        return []
    try:
        agent = await stack.enter_async_context(asyncssh.connect_agent(path))
        return list(await agent.get_keys())
    except (OSError, ValueError) as error:
        if connection.get("privateKey") or connection.get("password"):
            return []
        raise ProviderError(f"the ssh agent at {path} gives no keys: {error}") from None


async def _dial(
    connection: Mapping[str, Any],
    job: Job,
    agent_keys: Sequence[asyncssh.SSHKeyPair],
    prefix: str,
    tunnel: asyncssh.SSHClientConnection | None = None,
) -> asyncssh.SSHClientConnection:
    """Connect, again and again up to the limit of failures; a wrong host key is final."""
    host, port, limit = connection["host"], int(connection["port"]), int(connection["dialErrorLimit"])
    expected = asyncssh.import_public_key(connection["hostKey"]) if connection.get("hostKey") else None
    pinned = _PinnedKey(expected)
    options: dict[str, Any] = {
        "username": connection["user"],
        "client_keys": [*([_private_key(connection)] if connection.get("privateKey") else []), *agent_keys] or None,
        "password": connection.get("password"),
        "known_hosts": ([expected], [], []) if expected else None,
        "server_host_key_algs": [expected.get_algorithm()] if expected else (),
        "connect_timeout": connection["perDialTimeout"] or None,
        "keepalive_interval": _KEEPALIVE,
        "config": None,
        "tunnel": tunnel or (),
        "client_factory": lambda: pinned,
    }
    failures, pause = 0, _FIRST_PAUSE
    while True:
        try:
            return await asyncssh.connect(host, port, **options)
        except (OSError, asyncssh.Error) as error:
            reason = _reason(error, connection)
        if pinned.presented is not None and expected is not None:
            raise ProviderError(
                f"{prefix}host key mismatch: {host}:{port} presented "
                f"{_fingerprint(pinned.presented)}, but {_fingerprint(expected)} is expected; "
                "if the machine was made anew on purpose, update its host key, otherwise find out who answers there"
            )
        failures += 1
        if -1 < limit < failures:
            raise ProviderError(f"{prefix}after {limit} failed attempts: ssh to {host}:{port}: {reason}")
        job.report(f"{prefix}dial {failures}/{'inf' if limit == -1 else limit} failed: {reason}; retrying")
        await asyncio.sleep(pause)
        pause = min(pause * _PAUSE_FACTOR, _LONGEST_PAUSE)


class _PinnedKey(asyncssh.SSHClient):
    """Remembers the key of a server whose key is not the expected one."""

    def __init__(self, expected: asyncssh.SSHKey | None) -> None:
        self._expected = expected
        self.presented: asyncssh.SSHKey | None = None

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
        case asyncssh.ConnectionLost():
            return "the server hung up in the handshake"
        case _:
            return str(error) or type(error).__name__


def _private_key(connection: Mapping[str, Any]) -> asyncssh.SSHKey:
    return asyncssh.import_private_key(connection["privateKey"], connection.get("privateKeyPassword"))


def _fingerprint(key: asyncssh.SSHKey) -> str:
    return f"{key.get_algorithm()} {key.get_fingerprint()}"
