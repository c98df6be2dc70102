"""What the parts of a run hand to each other: goals, steps, events, failures."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from lab.engine import urns
from lab.engine.providers.base import Diff, ProviderError
from lab.engine.state import Record


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What the program wants a resource to be."""

    record: Record
    """As it should stand in state, without id and outputs."""
    name: str
    aliases: tuple[urns.Alias, ...] = ()
    ignore_changes: tuple[str, ...] = ()
    delete_before_replace: bool | None = None
    remote: bool = False
    version: str = ""
    problem: str = ""
    """An option that this engine does not have; fails the resource."""


@dataclass(frozen=True)
class Step:
    """One line of a plan; `op` is Pulumi's name for it."""

    op: str
    urn: str
    old: Record | None = None
    new: Record | None = None
    diff: Diff = field(default_factory=lambda: Diff(changed=False))


class Events(Protocol):
    """Where a deployment says what it does; called from many threads."""

    def begin(self, step: Step) -> None:
        """A step starts."""

    def end(self, step: Step, error: str = "") -> None:
        """A step is done, or has failed."""

    def report(self, urn: str, message: str) -> None:
        """A step has progress to tell."""

    def skip(self, urn: str, because: str) -> None:
        """A resource is left as it is because something else has failed."""

    def learn(self, values: Mapping[str, Any]) -> None:
        """Values whose secrets must not show up in any message."""

    def hide(self, text: str) -> str:
        """Return a text without the secrets known so far."""

    def message(self, severity: str, urn: str, text: str) -> None:
        """Something of severity `info`, `warning` or `error`; about the whole run where the URN is empty."""


class StepError(Exception):
    """A resource's step failed or was skipped, and that has been told."""


def explain(error: Exception) -> str:
    """Return what to tell of an error: a provider's own words, or where a mistake in it lies."""
    if isinstance(error, ProviderError):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
