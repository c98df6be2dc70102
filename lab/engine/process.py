"""The program's process; started early, since importing the SDK takes most of a run that changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


class ProgramProcess:
    """The program, run by this interpreter in a session of its own, so that Ctrl-C reaches the engine alone."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("program.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def run(self, settings: Mapping[str, Any], line: Callable[[str], None]) -> int:
        """Send the settings and follow the program."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError), self._process.stdin as pipe:  # it may have died: its output says why
            pipe.write(json.dumps(settings))
        with self._process.stdout as output:
            for text in output:
                line(text.rstrip("\n"))
        return self._process.wait()

    def stop(self) -> None:
        """End the program and what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
