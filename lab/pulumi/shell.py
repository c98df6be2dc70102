"""Runs commands here; what a command printed and how it failed, wherever it ran, in the published provider's words."""

import asyncio
import codecs
import json
import os
import re
import signal
from asyncio.subprocess import DEVNULL, PIPE, create_subprocess_exec
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any


class CommandError(Exception):
    """A step failed; the text is for people."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One thing that the engine wants done."""

    report: Callable[[str], Awaitable[None]]
    stop: asyncio.Future[str]
    """Has the reason as soon as the job is to end: its time is up, or the run was cancelled."""
    command: str = ""
    stdin: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    logging: str = "stdoutAndStderr"
    interpreter: Sequence[str] = ("/bin/sh", "-c")
    folder: str | None = None


class Output:
    """Collects both streams of a job: each alone, for the outputs, and as they came, for an error."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._streams: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        self._mixed: list[bytes] = []

    async def take(self, process: Any) -> None:
        """Give a process, asyncio's or asyncssh's, its input and take all that it prints."""
        if process.stdin is not None:
            with suppress(OSError):  # a command need not read its input
                process.stdin.write(self._job.stdin.encode())
                process.stdin.write_eof()
        await asyncio.gather(self._drain(process.stdout, "stdout"), self._drain(process.stderr, "stderr"))

    async def _drain(self, reader: Any, stream: str) -> None:
        decoder, begun = codecs.getincrementaldecoder("utf-8")("replace"), ""
        while data := await reader.read(65536):
            self._streams[stream].append(data)
            self._mixed.append(data)
            if stream in self._job.logging.lower():
                *lines, begun = (begun + decoder.decode(data)).split("\n")
                for line in lines:
                    await self._job.report(line.removesuffix("\r"))
        if begun:
            await self._job.report(begun)

    def texts(self) -> dict[str, str]:
        """Return both streams, each without its last newline."""
        whole = {name: b"".join(parts).decode(errors="replace") for name, parts in self._streams.items()}
        return {name: text.removesuffix("\n") for name, text in whole.items()}

    def error(self, how: str) -> CommandError:
        """Return the error of a command that ended badly, for example with "exit status 3"."""
        printed = b"".join(self._mixed).decode(errors="replace")
        return CommandError(f"{how}: running {_quote(self._job.command)}:\n{printed}")


async def local(job: Job) -> dict[str, str]:
    """Run a command in this process' group, to which the engine sends its signals; return its outputs."""
    output, environment = Output(job), {**os.environ, **job.environment}
    if job.stop.done():
        raise output.error(job.stop.result())
    words, stdin = (*job.interpreter, job.command), PIPE if job.stdin else DEVNULL
    try:
        process = await create_subprocess_exec(
            *words, env=environment, cwd=job.folder, stdin=stdin, stdout=PIPE, stderr=PIPE
        )
    except OSError as error:
        call = f"chdir {job.folder}" if error.filename == job.folder else f"fork/exec {words[0]}"
        raise output.error(go_error(call, error)) from None

    def kill(_: object = None) -> None:
        if process.returncode is None:
            process.kill()

    job.stop.add_done_callback(kill)
    try:
        await output.take(process)
        code = await process.wait()
    finally:
        kill()  # the engine may not wait any longer
    if code:
        raise output.error(f"exit status {code}" if code > 0 else f"signal: {signal.strsignal(-code)}".lower())
    return output.texts()


def go_error(call: str, error: Exception) -> str:
    """Write a system's error as Go does."""
    return f"{call}: {os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else error}"


def _quote(text: str) -> str:
    """Quote as Go's %q does."""
    return re.sub(r"(?<!\\)\\u00(?=[01])", r"\\x", json.dumps(text, ensure_ascii=False))
