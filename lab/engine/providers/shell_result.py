"""One run of a command: what it is given, what it prints as it goes, and the error text that a failure gives.

Local and remote commands share this, so that both fail with the same words: how it ended, the command, its output.
"""

from __future__ import annotations

import codecs
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lab.engine.providers.base import ProviderError


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command to run."""

    command: str
    stdin: str = ""
    """Text for standard input, which is closed after it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables on top of the environment that is there."""
    log: tuple[bool, bool] = (False, False)
    """Whether lines of standard output and of standard error are reported as they come."""
    timeout: float | None = None
    """Seconds after which the command is given up; None for never."""
    report: Callable[[str], None] = lambda line: None
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when the run is interrupted: the command is given up."""


class Output:
    """Collects both streams of a job: each alone, for the outputs, and as they came, for an error."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._streams: tuple[list[bytes], list[bytes]] = ([], [])
        self._mixed: list[bytes] = []
        self._lines = tuple(codecs.getincrementaldecoder("utf-8")("replace") for _ in range(2))
        self._begun = ["", ""]

    def add(self, stream: int, data: bytes) -> None:
        """Take what came: stream 0 is standard output, 1 standard error."""
        self._streams[stream].append(data)
        self._mixed.append(data)
        if self._job.log[stream]:
            *lines, self._begun[stream] = (self._begun[stream] + self._lines[stream].decode(data)).split("\n")
            for line in lines:
                self._job.report(line)

    def texts(self) -> tuple[str, str]:
        """Return standard output and error, each without its last newline."""
        for rest in self._begun:
            if rest:
                self._job.report(rest)
        stdout, stderr = (b"".join(parts).decode(errors="replace").removesuffix("\n") for parts in self._streams)
        return stdout, stderr

    def error(self, how: str) -> ProviderError:
        """Make the error of a command that ended badly.

        Args:
            how: The way it ended, such as "exit status 3".
        """
        printed = b"".join(self._mixed).decode(errors="replace")
        return ProviderError(f"{how}: running {json.dumps(self._job.command, ensure_ascii=False)}:\n{printed}")
