"""Runs the commands of resources, here or over ssh, their output collected and shown as it comes.

All of them live on one event loop in a background thread, so that the engine's threads can just call `run`. Local and
remote commands fail with the same words: how it ended, the command, everything it printed.
"""

from __future__ import annotations

import asyncio
import codecs
import concurrent.futures
import functools
import json
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from lab.engine.providers.base import Context, ProviderError


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command to run."""

    command: str
    context: Context
    stdin: str = ""
    """Text for standard input, which is closed after it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables on top of the environment that is there."""
    log: tuple[bool, bool] = (False, False)
    """Whether lines of standard output and of standard error are reported as they come."""


class Reader(Protocol):
    """What asyncio and asyncssh both call the end of a pipe."""

    async def read(self, n: int = -1) -> bytes:
        """Return what is there, b"" at the end."""


class Output:
    """Collects both streams of a job: each alone, for the outputs, and as they came, for an error."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._streams: tuple[list[bytes], list[bytes]] = ([], [])
        self._mixed: list[bytes] = []

    async def take(self, stdin: Any, stdout: Reader, stderr: Reader) -> None:
        """Give the job its input and take all that it prints."""
        with suppress(OSError):  # a command need not read its input
            stdin.write(self._job.stdin.encode())
            stdin.write_eof()
        await asyncio.gather(self._drain(stdout, 0), self._drain(stderr, 1))

    async def _drain(self, reader: Reader, stream: int) -> None:
        decoder, begun = codecs.getincrementaldecoder("utf-8")("replace"), ""
        while data := await reader.read(65536):
            self._streams[stream].append(data)
            self._mixed.append(data)
            if self._job.log[stream]:
                *lines, begun = (begun + decoder.decode(data)).split("\n")
                for line in lines:
                    self._job.context.report(line)
        if begun:
            self._job.context.report(begun)

    def texts(self) -> tuple[str, str]:
        """Return standard output and error, each without its last newline."""
        stdout, stderr = (b"".join(parts).decode(errors="replace").removesuffix("\n") for parts in self._streams)
        return stdout, stderr

    def error(self, how: str) -> ProviderError:
        """Return the error of a command that ended badly, for example with "exit status 3"."""
        printed = b"".join(self._mixed).decode(errors="replace")
        return ProviderError(f"{how}: running {json.dumps(self._job.command, ensure_ascii=False)}:\n{printed}")


async def local(job: Job, output: Output) -> str:
    """Run a command with /bin/sh, in a process group of its own; return how it ended, "" for well."""
    environment = {**os.environ, **job.environment}
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", job.command), env=environment, stdin=pipe, stdout=pipe, stderr=pipe, process_group=0
        )
    except OSError as error:
        return f"cannot start /bin/sh: {error.strerror}"
    assert process.stdin and process.stdout and process.stderr
    try:
        await output.take(process.stdin, process.stdout, process.stderr)
        code = await process.wait()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    return "" if code == 0 else f"exit status {code}" if code > 0 else f"signal: {signal.Signals(-code).name}"


def run(job: Job, session: Callable[[Job, Output], Awaitable[str]] = local) -> tuple[str, str]:
    """Run a command to its end and return (stdout, stderr).

    Args:
        job: What to run.
        session: Runs it and returns how it ended; stopped where it takes too long or the run is interrupted.

    Raises:
        ProviderError: It did not end well.
    """
    output = Output(job)

    async def guarded() -> str:
        return await session(job, output)

    future = asyncio.run_coroutine_threadsafe(guarded(), _loop())
    begun, timeout = time.monotonic(), job.context.timeout
    while not concurrent.futures.wait([future], 0.2).done:
        late = timeout is not None and time.monotonic() - begun > timeout
        if late or job.context.cancelled.is_set():
            future.cancel()
            raise output.error(f"timed out after {timeout:g} s" if late else "interrupted")
    if how := future.result():
        raise output.error(how)
    return output.texts()


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="commands", daemon=True).start()
    return loop
