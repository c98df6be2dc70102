"""Shows people what the lab is doing and for how long.

A terminal gets one live line per running step; a log file or CI gets plain lines that read well afterwards.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table


def seconds(duration: float) -> str:
    """Return a duration as people read it: `3.2s`, `4m07s`."""
    if duration < 60:
        return f"{duration:.1f}s"
    minutes, rest = divmod(round(duration), 60)
    return f"{minutes}m{rest:02d}s"


class Step:
    """A running step; its note says what it is doing right now."""

    def __init__(self, name: str, started: float) -> None:
        self.name = name
        self.started = started
        self.note = ""


class Progress:
    """Reports steps, also from several threads at once.

    It writes to standard error, so that the standard output of a command stays its result.

    Args:
        stream: Where to write; standard error by default.
        live: Whether to draw live lines; by default, whether the stream is a terminal.
        clock: Seconds from any fixed point.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._live_wanted = self._stream.isatty() if live is None else live
        self._clock = clock
        self._start = clock()
        self._lock = threading.RLock()
        self._running: list[Step] = []
        self._live: Live | None = None

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Show `name` as running until the block ends, then how long it took.

        Yields:
            The step, whose `note` may be set to what it is doing.
        """
        step = Step(name, self._clock())
        with self._lock:
            self._running.append(step)
            if self._live_wanted:
                self._draw()
            else:
                self._line(f"{name} ...")
        outcome = "failed after"
        try:
            yield step
            outcome = "done in"
        finally:
            with self._lock:
                self._running.remove(step)
                self._line(f"{name} {outcome} {seconds(self._clock() - step.started)}")
                if not self._running:
                    self._erase()

    def say(self, text: str) -> None:
        """Show one line that stays, such as what is about to change on the machine."""
        with self._lock:
            self._line(text)

    def _line(self, text: str) -> None:
        if self._live is not None:
            self._live.console.print(text, markup=False, highlight=False)
            self._live.refresh()
        else:
            stamp = "" if self._live_wanted else f"[{self._clock() - self._start:6.1f}s] "
            print(f"{stamp}{text}", file=self._stream, flush=True)

    def _draw(self) -> None:
        if self._live is not None:
            return
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self._stream, force_terminal=True)
        self._live = Live(get_renderable=self._table, console=console, refresh_per_second=4, transient=True)
        self._live.start()

    def _erase(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def _table(self) -> Table:
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1))
        now = self._clock()
        for step in list(self._running):
            cells = (step.name, seconds(now - step.started), step.note)
            table.add_row(Spinner("dots"), *(Text(cell) for cell in cells))
        return table
