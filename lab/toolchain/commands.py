"""Runs the commands that build a part, with their output in a log file.

Every command dies with this process, and `cancel` ends those that run when another part has failed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

TAIL_LINES = 15
LIMIT = 3600
"""Seconds that a command may take; the longest, a cold build of Kubernetes, takes some minutes."""
TIMED_OUT = 124
"""The exit code of `timeout`."""


class BuildError(Exception):
    """A part could not be built; the text is for people."""


class Cancelled(BuildError):
    """A part was not finished because another one failed."""


class Crew:
    """The commands that run at this moment, over all parts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self.cancelled = False

    def start(
        self, argv: Sequence[str], *, cwd: Path | None, env: Mapping[str, str], log: BinaryIO, limit: float
    ) -> subprocess.Popen[bytes]:
        """Start a command in a process group of its own, unless the crew was cancelled."""
        with self._lock:
            if self.cancelled:
                raise Cancelled("cancelled")
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "--", "timeout", str(limit), *argv],
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                process_group=0,
            )
            self._running.add(process)
            return process

    def done(self, process: subprocess.Popen[bytes]) -> None:
        """Forget a command that ended."""
        with self._lock:
            self._running.discard(process)

    def cancel(self) -> None:
        """End every running command and start no other."""
        with self._lock:
            self.cancelled = True
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log, indented."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


class Shell:
    """Runs the commands of one part.

    Args:
        log: The file that gets every command and its output.
        crew: Where the running commands are known.
        remedy: What a person can do when a command fails.
    """

    def __init__(self, log: Path, crew: Crew, remedy: str) -> None:
        self.log = log
        self._crew = crew
        self._remedy = remedy

    def run(
        self,
        *argv: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        limit: float = LIMIT,
    ) -> str:
        """Run a command to its end and return its standard output.

        Args:
            argv: The command.
            cwd: Its working directory.
            env: Variables added to this process's; an empty value removes one.
            limit: Seconds after which it is ended.

        Raises:
            BuildError: The command failed; names the log and shows its end.
        """
        words = [str(word) for word in argv]
        variables = {**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}
        with self.log.open("ab") as log:
            log.write(f"$ {' '.join(words)}\n".encode())
            log.flush()
            environment = {name: value for name, value in variables.items() if value}
            process = self._crew.start(words, cwd=cwd, env=environment, log=log, limit=limit)
            output = bytearray()
            with process:
                assert process.stdout is not None
                for line in process.stdout:
                    output += line
                    log.write(line)
                    log.flush()
            self._crew.done(process)
        code = process.returncode
        if code and self._crew.cancelled:
            raise Cancelled("cancelled")
        if code:
            how = f"took longer than {limit:g} s" if code == TIMED_OUT else f"failed with exit code {code}"
            what = f"`{' '.join(words[:3])}` {how}; {self._remedy}"
            raise BuildError(f"{what}\n  the log is {self.log}, its end:\n{tail(self.log)}")
        return output.decode(errors="replace")
