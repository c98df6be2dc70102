"""Runs commands on other machines over ssh, and copies files there, with pulumi-command's connection settings."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final

import asyncssh

from lab.pulumi.shell import CommandError, Job, Output, Step, lower

_FIRST_PAUSE, _PAUSE_FACTOR, _LONGEST_PAUSE = 0.1, 1.5, 5.0
_KEEPALIVE: Final = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 9}
"""What Go sets on each connection: a machine that is gone shows after two and a half minutes."""


async def remote(connection: Mapping[str, Any], job: Job) -> dict[str, str]:
    """Run a command on a connection of its own, to its end whatever the job's `stop`; return its outputs.

    Raises:
        CommandError: No connection, or the command did not end well.
    """
    output, how = Output(job), "wait: remote command exited without exit status or exit signal"
    async with AsyncExitStack() as opened:
        client = await _reach(connection, job, opened)
        try:
            process = await client.create_process(job.command, encoding=None, env=dict(job.environment))
            await output.take(process)
            await process.wait_closed()
        except (OSError, asyncssh.Error):
            raise output.error(how) from None
    if process.exit_status == 0:
        return output.texts()
    if process.exit_signal:
        name = process.exit_signal[0]
        how = f"Process exited with status {128 + getattr(signal, f'SIG{name}', 0)} from signal {name}"
    elif process.exit_status is not None:
        how = f"Process exited with status {process.exit_status}"
    raise output.error(how)


async def copy(connection: Mapping[str, Any], source: Path | str, target: str, step: Step) -> None:
    """Copy a file, or a text as a file, to another machine.

    Raises:
        CommandError: No connection, or no such file, or no such place.
    """
    async with AsyncExitStack() as opened:
        client = await _reach(connection, step, opened)
        try:
            files = await opened.enter_async_context(client.start_sftp_client())
            await files.makedirs(PurePosixPath(target).parent, exist_ok=True)
            if isinstance(source, Path):
                await files.put(str(source), target)
            else:
                async with files.open(target, "wb", encoding=None) as file:
                    await file.write(source.encode())
        except (OSError, asyncssh.Error) as error:
            raise CommandError(f"failed to create remote file {target}: {error}") from None


async def _reach(connection: Mapping[str, Any], step: Step, opened: AsyncExitStack) -> asyncssh.SSHClientConnection:
    """Connect, through the proxy where there is one; all that fails is then called the proxy's."""
    if not (proxy := connection.get("proxy")):
        return await _dial(connection, step, opened, "Dial")
    try:
        tunnel = await _dial(proxy, step, opened, "Dial proxy")
        return await _dial(connection, step, opened, "Dial from proxy", tunnel)
    except CommandError as error:
        raise CommandError(f"proxy: {error}") from None


async def _dial(
    connection: Mapping[str, Any], step: Step, opened: AsyncExitStack, title: str, tunnel: Any = None
) -> asyncssh.SSHClientConnection:
    """Connect, again and again up to the limit of failures."""
    options, limit = await _options(connection, opened), int(connection["dialErrorLimit"])
    failures, pause = 0, _FIRST_PAUSE
    while True:
        try:
            return await opened.enter_async_context(_connect(connection, options, tunnel))
        except _DialError as error:
            failures += 1
            if -1 < limit < failures:
                raise CommandError(f"after {limit} failed attempts: {error}") from None
        await step.report(f"{title} {failures}/{'inf' if limit == -1 else limit} failed: retrying")
        await asyncio.wait([step.stop], timeout=pause)
        if step.stop.done():
            raise CommandError(step.stop.result())
        pause = min(pause * _PAUSE_FACTOR, _LONGEST_PAUSE)


async def _options(connection: Mapping[str, Any], opened: AsyncExitStack) -> dict[str, Any]:
    """Return what stays the same from attempt to attempt."""
    try:
        host_key = asyncssh.import_public_key(connection["hostKey"]) if "hostKey" in connection else None
    except asyncssh.KeyImportError:
        raise CommandError("failed to parse host key: ssh: no key found") from None
    keys: list[Any] = []
    try:
        if "privateKey" in connection:
            passphrase = connection.get("privateKeyPassword")
            keys.append(asyncssh.import_private_key(connection["privateKey"], passphrase))
    except asyncssh.KeyEncryptionError:
        raise CommandError("ssh: this private key is passphrase protected") from None
    except asyncssh.KeyImportError:
        raise CommandError("ssh: no key found") from None
    # The published provider asks the agent even where there is a key, and fails where no agent answers.
    if agent := connection.get("agentSocketPath") or os.environ.get("SSH_AUTH_SOCK"):
        try:
            keys += await (await opened.enter_async_context(asyncssh.connect_agent(agent))).get_keys()
        except OSError as error:
            raise CommandError(f"dial unix {agent}: connect: {lower(error)}") from None
    return {
        "username": connection["user"],
        "password": connection.get("password"),
        "client_keys": keys or None,
        "agent_path": None,
        "known_hosts": ([host_key], [], []) if host_key else None,
        "server_host_key_algs": [host_key.get_algorithm()] if host_key else (),
        "login_timeout": 0,
        "config": None,
    }


class _DialError(Exception):
    """An attempt to connect failed."""


@asynccontextmanager
async def _connect(
    connection: Mapping[str, Any], options: Mapping[str, Any], tunnel: Any
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Connect once. Only the TCP connection has a deadline, as with the published provider.

    Raises:
        _DialError: It failed.
    """
    host, port = connection["host"], int(connection["port"])
    reach = {"host": host, "port": port, "tunnel": tunnel} if tunnel else {"sock": await _tcp(host, port, connection)}
    try:
        client = await asyncssh.connect(**reach, **options)
    except asyncssh.ChannelOpenError as error:
        raise _DialError(f"ssh: rejected: connect failed ({error.reason})") from None
    except asyncssh.HostKeyNotVerifiable:
        raise _DialError("ssh: handshake failed: ssh: host key mismatch") from None
    except asyncssh.PermissionDenied:
        methods = ["none", *["publickey" for _ in options["client_keys"] or ()][:1]]
        tried = f"attempted methods [{' '.join(methods)}], no supported methods remain"
        raise _DialError(f"ssh: handshake failed: ssh: unable to authenticate, {tried}") from None
    except (OSError, asyncssh.ConnectionLost):
        raise _DialError("ssh: handshake failed: EOF") from None
    except asyncssh.Error as error:
        raise _DialError(f"ssh: handshake failed: ssh: {error.reason}") from None
    async with client:
        yield client


async def _tcp(host: str, port: int, connection: Mapping[str, Any]) -> socket.socket:
    loop, problem = asyncio.get_running_loop(), ""
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        raise _DialError(f"dial tcp: lookup {host}: no such host") from None
    for family, kind, protocol, _, address in found:
        stream = socket.socket(family, kind, protocol)
        stream.setblocking(False)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            stream.setsockopt(socket.IPPROTO_TCP, option, value)
        try:
            await asyncio.wait_for(loop.sock_connect(stream, address), connection["perDialTimeout"] or None)
            return stream
        except OSError as error:  # TimeoutError is one
            stream.close()
            reason = f"connect: {lower(error)}" if error.errno else "i/o timeout"
            shown = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
            problem = problem or f"dial tcp {shown}:{port}: {reason}"
    raise _DialError(problem)
