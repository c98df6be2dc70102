"""Runs a command on this machine, its output collected and shown as it comes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import IO

from lab.engine.providers.shell_result import Job, Output


def run_local(job: Job, *, directory: str | None, interpreter: Sequence[str]) -> tuple[str, str]:
    """Run to the end and return (stdout, stderr).

    Args:
        job: What to run.
        directory: Where; None for the current directory.
        interpreter: Program and arguments that get the command as their last argument.

    Raises:
        ProviderError: The command could not be started, failed, or took too long.
    """
    output = Output(job)
    try:
        process = subprocess.Popen(
            [*interpreter, job.command],
            cwd=directory,
            env={**os.environ, **job.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
    except OSError as error:
        raise output.error(f"cannot start {error.filename or interpreter[0]}: {error.strerror}") from None
    assert process.stdin and process.stdout and process.stderr
    threads = [
        threading.Thread(target=_feed, args=(process.stdin, job.stdin), daemon=True),
        threading.Thread(target=_drain, args=(process.stdout, output, 0), daemon=True),
        threading.Thread(target=_drain, args=(process.stderr, output, 1), daemon=True),
    ]
    for thread in threads:
        thread.start()
    gave_up = _wait(process, threads, job)
    for stream in (process.stdin, process.stdout, process.stderr):
        with contextlib.suppress(OSError):
            stream.close()
    if gave_up:
        raise output.error(gave_up)
    if process.returncode:
        code = process.returncode
        raise output.error(f"exit status {code}" if code > 0 else f"signal: {signal.Signals(-code).name}")
    return output.texts()


def _wait(process: subprocess.Popen[bytes], threads: Sequence[threading.Thread], job: Job) -> str | None:
    """Wait for the process and the end of its output; kill its group and say why when that is not to be."""
    deadline = None if job.timeout is None else time.monotonic() + job.timeout
    while process.poll() is None or any(thread.is_alive() for thread in threads):
        late = deadline is not None and time.monotonic() > deadline
        if late or job.cancelled.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for thread in threads:
                thread.join(1)
            return f"timed out after {job.timeout:g} s" if late else "interrupted"
        alive = next((thread for thread in threads if thread.is_alive()), None)
        if alive is not None:
            alive.join(0.05)
        else:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
    return None


def _feed(pipe: IO[bytes], text: str) -> None:
    with contextlib.suppress(OSError):  # a command need not read its input
        pipe.write(text.encode())
        pipe.close()


def _drain(pipe: IO[bytes], output: Output, stream: int) -> None:
    with contextlib.suppress(ValueError):  # closed after the command was given up
        while data := os.read(pipe.fileno(), 65536):
            output.add(stream, data)
