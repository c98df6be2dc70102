"""What the parts of a run hand to each other: goals, steps, failures."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field

from lab.engine.providers.base import Diff, ProviderError
from lab.engine.state import Record


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What the program wants a resource to be."""

    record: Record
    """As it should stand in state, without id and outputs."""
    name: str
    aliases: tuple[str, ...] = ()
    """Former URNs."""
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


class StepError(Exception):
    """A resource's step failed or was skipped, and that has been told."""


def explain(error: Exception) -> str:
    """Return what to tell of an error: a provider's own words, or where a mistake in it lies."""
    if isinstance(error, ProviderError):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
