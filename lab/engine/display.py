"""What people see while a run goes on, and at its end; and the secrets that nobody must see."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from lab.engine import render, urns
from lab.engine.model import Step
from lab.engine.values import HIDDEN, secret_strings

QUIET_SECONDS = 15.0
"""How often a step may tell of its progress."""
SHORTEST_SECRET = 16
"""Of texts inside an object that is secret as a whole, shorter ones show in messages. Keys and tokens are longer."""


class Display:
    """Receives a deployment's events; prints steps as they end, and the rest in `finish`.

    Args:
        out: Where to print.
        as_json: Print one JSON document at the end and nothing else.
        more: Show whole values and context lines (`--diff`).
    """

    def __init__(self, out: TextIO = sys.stdout, *, as_json: bool = False, more: bool = False) -> None:
        self._out, self._json, self._more = out, as_json, more
        self._lock = threading.RLock()
        self._start = time.monotonic()
        self._running: dict[tuple[str, str], float] = {}
        self._status: dict[str, str] = {}
        self._told: dict[str, float] = {}
        self._secrets: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.steps: list[Step] = []
        self.messages: list[tuple[str, str, str]] = []
        """Severity, URN, text."""
        self.skipped: dict[str, str] = {}
        self.config: dict[str, str] = {}
        self.old_outputs: Mapping[str, Any] = {}
        self.new_outputs: Mapping[str, Any] = {}
        self.live = False
        """True to print steps as they end."""

    @property
    def failed(self) -> bool:
        """Tell whether anything went wrong so far."""
        return any(severity == "error" for severity, _, _ in self.messages)

    def learn(self, values: Mapping[str, Any]) -> None:
        """Remember secrets, so that no message shows them."""
        self.learn_texts(secret_strings(values, inside=SHORTEST_SECRET))

    def learn_texts(self, texts: Iterable[str]) -> None:
        """Remember secret texts, and the lines of long ones."""
        found = {text for text in texts if text}
        found |= {
            line for text in found for line in text.splitlines() if len(line) >= SHORTEST_SECRET and " " not in line
        }
        with self._lock:
            if not found <= self._secrets:
                self._secrets |= found
                self._pattern = None

    def hide(self, text: str) -> str:
        """Return a text without the secrets known so far."""
        with self._lock:
            if self._pattern is None:
                longest_first = sorted(self._secrets, key=len, reverse=True)
                self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
            return self._pattern.sub(HIDDEN, text)

    def begin(self, step: Step) -> None:
        """Note the start of a step."""
        with self._lock:
            self._running[step.urn, step.op] = time.monotonic()

    def tell(self, step: Step) -> None:
        """Note a step in which nothing is done."""
        self.begin(step)
        self.end(step)

    def end(self, step: Step, error: str = "") -> None:
        """Print the step, and keep it for the summary; a failed one counts as a message."""
        if step.new is not None:
            self.learn(step.new.outputs)
        with self._lock:
            seconds = time.monotonic() - self._running.pop((step.urn, step.op))
            self._status.pop(step.urn, None)
            if error:
                self.message("error", step.urn, error)
            else:
                self.steps.append(step)
            line = render.progress(step, seconds, failed=bool(error))
            if self.live and line:
                self._print(line)

    def report(self, urn: str, message: str) -> None:
        """Show progress of a step, sparingly; a warning is kept for the end."""
        if message.startswith("warning: "):
            self.message("warning", urn, message.removeprefix("warning: "))
            return
        with self._lock:
            self._status[urn] = self.hide(message)
            if self.live and time.monotonic() - self._told.get(urn, self._start) > QUIET_SECONDS:
                self._told[urn] = time.monotonic()
                self._print(f" …  {urns.label(urn)}: {self._status[urn]}")

    def skip(self, urn: str, because: str) -> None:
        """Keep for the end why a resource was left alone."""
        with self._lock:
            self.skipped[urn] = because

    def message(self, severity: str, urn: str, text: str) -> None:
        """Keep a message for the end; what the program prints is shown at once."""
        with self._lock:
            self.messages.append((severity, urn, self.hide(text)))
            if self.live and not urn and severity != "error":
                self._print(self.hide(text))

    def finish(self, *, preview: bool) -> bool:
        """Print what is left to say; true if all went well."""
        good = not self.failed and not self.skipped
        seconds = time.monotonic() - self._start
        if self._json:
            print(json.dumps(render.digest(self, seconds), indent=4), file=self._out)
            return good
        lines = [self.hide(line) for line in render.plan(self.steps, more=self._more)] if preview else []
        outputs = render.outputs(self.old_outputs, self.new_outputs, everything=not preview)
        lines += ["", "Outputs:", *(self.hide(line) for line in outputs)] if outputs else []
        lines += render.diagnostics(self.messages, self.skipped, programs_too=not self.live)
        lines += [
            "",
            render.summary(self.steps, seconds, preview=preview, failures=self.messages, skipped=self.skipped),
        ]
        self._print("\n".join(lines))
        return good

    def _print(self, text: str) -> None:
        print(text, file=self._out, flush=True)
