"""Runs commands here; what a command printed and how it failed, wherever it ran, in the published provider's words."""

import asyncio
import codecs
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any


class CommandError(Exception):
    """A step failed; the text is for people."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that the engine wants done."""

    report: Callable[[str], Awaitable[None]]
    """Shows a line of progress."""
    stop: asyncio.Future[str]
    """Has the reason as soon as the step is to end: its time is up, or the run was cancelled."""


@dataclass(frozen=True, kw_only=True)
class Job(Step):
    """A command to run."""

    command: str
    stdin: str = ""
    """Text for standard input, which is closed after it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    log: tuple[bool, bool] = (True, True)
    """Whether lines of standard output and of standard error are reported as they come."""
    interpreter: Sequence[str] = ("/bin/sh", "-c")
    folder: str | None = None


class Output:
    """Collects both streams of a job: each alone, for the outputs, and as they came, for an error."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._streams: tuple[list[bytes], list[bytes]] = ([], [])
        self._mixed: list[bytes] = []

    async def take(self, process: Any) -> None:
        """Give a process, asyncio's or asyncssh's, its input and take all that it prints."""
        if process.stdin is not None:
            with suppress(OSError):  # a command need not read its input
                process.stdin.write(self._job.stdin.encode())
                process.stdin.write_eof()
        await asyncio.gather(self._drain(process.stdout, 0), self._drain(process.stderr, 1))

    async def _drain(self, reader: Any, stream: int) -> None:
        decoder, begun = codecs.getincrementaldecoder("utf-8")("replace"), ""
        while data := await reader.read(65536):
            self._streams[stream].append(data)
            self._mixed.append(data)
            if self._job.log[stream]:
                *lines, begun = (begun + decoder.decode(data)).split("\n")
                for line in lines:
                    await self._job.report(line)
        if begun:
            await self._job.report(begun)

    def texts(self) -> dict[str, str]:
        """Return both streams, each without its last newline."""
        stdout, stderr = (b"".join(parts).decode(errors="replace").removesuffix("\n") for parts in self._streams)
        return {"stdout": stdout, "stderr": stderr}

    def error(self, how: str) -> CommandError:
        """Return the error of a command that ended badly, for example with "exit status 3"."""
        printed = b"".join(self._mixed).decode(errors="replace")
        return CommandError(f"{how}: running {_quote(self._job.command)}:\n{printed}")


async def local(job: Job) -> dict[str, str]:
    """Run a command in this process' group, to which the engine sends its signals; return its outputs.

    Raises:
        CommandError: It did not end well.
    """
    output, environment = Output(job), {**os.environ, **job.environment}
    if job.stop.done():
        raise output.error(job.stop.result())
    arguments, stdin = (*job.interpreter, job.command), PIPE if job.stdin else DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *arguments, env=environment, cwd=job.folder, stdin=stdin, stdout=PIPE, stderr=PIPE
        )
    except OSError as error:
        what = f"chdir {job.folder}" if error.filename == job.folder else f"fork/exec {job.interpreter[0]}"
        raise output.error(f"{what}: {lower(error)}") from None

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


def lower(error: OSError) -> str:
    """Return what the system says, as Go writes it."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


def _quote(text: str) -> str:
    """Quote as Go's %q does."""
    escapes = {'"': '\\"', "\\": "\\\\"} | dict(zip("\a\b\f\n\r\t\v", map("\\{}".format, "abfnrtv"), strict=True))

    def escape(char: str) -> str:
        code, shown = ord(char), escapes.get(char, char)
        return shown if shown.isprintable() else f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"

    return f'"{"".join(map(escape, text))}"'
