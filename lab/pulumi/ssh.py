"""Runs commands on other machines over ssh, and copies files there, with pulumi-command's connection settings."""

import asyncio
import os
import signal
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path, PurePosixPath
from typing import Any, Final

import asyncssh

from lab.pulumi.shell import CommandError, Job, Output, go_error

_FIRST_PAUSE, _PAUSE_FACTOR, _LONGEST_PAUSE = 0.1, 1.5, 5.0
_KEEPALIVE: Final = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 9}
"""What Go sets, so that a machine that is gone shows after two and a half minutes; asyncssh turns it on."""


async def remote(connection: Mapping[str, Any], job: Job) -> dict[str, str]:
    """Run a command on a connection of its own; return its outputs. It has its time, whatever the job's `stop`."""
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


async def copy(connection: Mapping[str, Any], source: Path | str, target: str, job: Job) -> None:
    """Copy a file, or a text as a file, to another machine."""
    async with AsyncExitStack() as opened:
        client = await _reach(connection, job, opened)
        try:
            files = await opened.enter_async_context(client.start_sftp_client())
            await files.makedirs(PurePosixPath(target).parent, exist_ok=True)
            if isinstance(source, Path):
                await files.put(str(source), target)
            else:
                async with files.open(target, "w") as file:
                    await file.write(source)
        except (OSError, asyncssh.Error) as error:
            raise CommandError(f"failed to create remote file {target}: {error}") from None


async def _reach(connection: Mapping[str, Any], job: Job, opened: AsyncExitStack) -> asyncssh.SSHClientConnection:
    """Connect, through the proxy where there is one; all that fails is then called the proxy's."""
    if not (proxy := connection.get("proxy")):
        return await _dial(connection, job, opened, "Dial")
    try:
        tunnel = await _dial(proxy, job, opened, "Dial proxy")
        return await _dial(connection, job, opened, "Dial from proxy", tunnel)
    except CommandError as error:
        raise CommandError(f"proxy: {error}") from None


async def _dial(
    connection: Mapping[str, Any], job: Job, opened: AsyncExitStack, title: str, tunnel: Any = None
) -> asyncssh.SSHClientConnection:
    """Connect, again and again up to the limit of failures. Only TCP has a deadline, as with the published provider."""
    options, limit = await _options(connection, opened), int(connection["dialErrorLimit"])
    host, port, failures, pause = connection["host"], int(connection["port"]), 0, _FIRST_PAUSE
    while True:
        try:
            if tunnel:
                client = await asyncssh.connect(host, port, tunnel=tunnel, **options)
            else:
                client = await asyncssh.connect(sock=await _tcp(host, port, connection["perDialTimeout"]), **options)
            return await opened.enter_async_context(client)
        except CommandError as error:
            problem = str(error)
        except (OSError, asyncssh.Error) as error:
            problem = _problem(error, bool(options["client_keys"]))
        failures += 1
        if -1 < limit < failures:
            raise CommandError(f"after {limit} failed attempts: {problem}")
        await job.report(f"{title} {failures}/{'inf' if limit == -1 else limit} failed: retrying")
        await asyncio.wait([job.stop], timeout=pause)
        if job.stop.done():
            raise CommandError(job.stop.result())
        pause = min(pause * _PAUSE_FACTOR, _LONGEST_PAUSE)


def _problem(error: Exception, with_key: bool) -> str:
    match error:
        case asyncssh.ChannelOpenError():
            return f"ssh: rejected: connect failed ({error.reason})"
        case asyncssh.HostKeyNotVerifiable():
            reason = "ssh: host key mismatch"
        case asyncssh.PermissionDenied():
            tried = "none publickey" if with_key else "none"
            reason = f"ssh: unable to authenticate, attempted methods [{tried}], no supported methods remain"
        case _:
            reason = "EOF" if isinstance(error, (OSError, asyncssh.ConnectionLost)) else f"ssh: {error}"
    return f"ssh: handshake failed: {reason}"


async def _tcp(host: str, port: int, seconds: float) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        family, kind, protocol, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
    except socket.gaierror:
        raise CommandError(f"dial tcp: lookup {host}: no such host") from None
    stream = socket.socket(family, kind, protocol)
    stream.setblocking(False)
    for option, value in _KEEPALIVE.items():
        stream.setsockopt(socket.IPPROTO_TCP, option, value)
    try:
        await asyncio.wait_for(loop.sock_connect(stream, address), seconds or None)
    except OSError as error:
        stream.close()
        call = f"dial tcp {f'[{address[0]}]' if family == socket.AF_INET6 else address[0]}:{port}"
        raise CommandError(go_error(f"{call}: connect", error) if error.errno else f"{call}: i/o timeout") from None
    return stream


async def _options(connection: Mapping[str, Any], opened: AsyncExitStack) -> dict[str, Any]:
    """Return what stays the same from attempt to attempt."""
    host_key, problem = None, "failed to parse host key: ssh: no key found"
    keys: list[Any] = []
    try:
        if "hostKey" in connection:
            host_key = asyncssh.import_public_key(connection["hostKey"])
        problem = "ssh: no key found"
        if "privateKey" in connection:
            keys.append(asyncssh.import_private_key(connection["privateKey"], connection.get("privateKeyPassword")))
        # The published provider asks the agent even where there is a key, and fails where no agent answers.
        if agent := connection.get("agentSocketPath") or os.environ.get("SSH_AUTH_SOCK"):
            keys += await (await opened.enter_async_context(asyncssh.connect_agent(agent))).get_keys()
    except OSError as error:
        raise CommandError(go_error(f"dial unix {agent}: connect", error)) from None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        raise CommandError(problem) from None
    return {
        "username": connection["user"],
        "password": connection.get("password"),
        "client_keys": keys or None,
        "agent_path": None,
        "known_hosts": ([host_key], [], []) if host_key else None,
        "server_host_key_algs": [host_key.get_algorithm()] if host_key else (),
        "login_timeout": 0,
        "encryption_algs": "^aes128-gcm@openssh.com",  # as Go prefers; asyncssh's own choice takes a third more CPU
        "config": None,
    }
