"""What the engine asks of a provider: the verbs of Pulumi's provider protocol, as plain Python.

A provider never sees protobuf, secrets' wrappers, state files or other resources; the engine owns all of these.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Diff:
    """A provider's answer to whether and how a resource must change."""

    changed: bool
    replace: tuple[str, ...] = ()
    """Paths whose change forces a replacement; empty for an update in place."""
    delete_before_replace: bool = False
    """True when old and new cannot exist side by side (a fixed name, say)."""
    detailed: Mapping[str, str] = field(default_factory=dict)
    """`add`, `delete` or `update` by path (`spec.replicas`, `metadata.labels["a.b/c"]`, `ports[0]`), with `-replace`
    behind it when this change forces a replacement; where empty, the engine compares the inputs itself."""


@dataclass(frozen=True)
class Child:
    """A resource that a remote component (helm.v4.Chart) consists of."""

    type: str
    name: str
    inputs: Values
    depends_on: tuple[str, ...] = ()
    """Names of other children of the same component that must exist first."""


@dataclass(frozen=True)
class Context:
    """What a provider may need to know about the step it carries out."""

    urn: str
    preview: bool = False
    """True for a dry run: change nothing, return UNKNOWN for what is not known yet."""
    timeout: float | None = None
    """Seconds that the program's customTimeouts allow for this step; None for the provider's default."""
    adopt: bool = False
    """True when an earlier run died during this very create: an object that is there is ours, take it."""
    report: Callable[[str], None] = lambda message: None
    """Shows a line of progress for this resource, such as what is being waited for."""
    cancelled: threading.Event = field(default_factory=threading.Event)
    """Set when the run is interrupted: stop waiting, raise ProviderError."""


class ProviderError(Exception):
    """A step failed; the text is for people and goes under the resource's name.

    Args:
        message: What failed and what to do about it.
        partial: (id, outputs) where the object exists although the step failed (an await timed out): the engine
            keeps it in state, and the next run goes on with an update.
    """

    def __init__(self, message: str, *, partial: tuple[str, dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.partial = partial


class CheckError(ProviderError):
    """Inputs are invalid; every problem at once."""

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{path}: {reason}" if path else reason for path, reason in problems))


class Provider:
    """One per provider resource of the program, and a default one per package. Called from many threads at once.

    Made by calling its class with the provider resource's inputs (default provider: an empty mapping). The SDK sends
    a provider's booleans and objects as JSON text, and so they arrive here.

    Secrets in arguments are unwrapped. Outputs may hold `Secret`; the engine also marks outputs whose input was secret.
    Inputs may hold `UNKNOWN` in previews, in `check`, `diff`, and `create`/`update` with `context.preview`.
    """

    def supports(self, type_: str) -> bool:
        """Tell whether the provider has this resource type, so that the engine can name the one that is missing."""
        return True

    def check(self, type_: str, old: Values | None, new: Values, *, name: str) -> dict[str, Any]:
        """Return the inputs normalised (defaults, names kept from `old` or made from `name`), or raise CheckError.

        May wrap in `Secret` what is secret by its kind (the data of a Kubernetes Secret).
        """
        return dict(new)

    def diff(self, type_: str, id_: str, old_inputs: Values, old_outputs: Values, new_inputs: Values) -> Diff:
        """Compare; must not change anything."""
        raise NotImplementedError

    def create(self, type_: str, inputs: Values, context: Context) -> tuple[str, dict[str, Any]]:
        """Create and wait until it is ready; return id and outputs. In a preview the id is "" unless it is known."""
        raise NotImplementedError

    def update(
        self, type_: str, id_: str, old_inputs: Values, old_outputs: Values, new_inputs: Values, context: Context
    ) -> dict[str, Any]:
        """Change in place, wait, and return the outputs."""
        return dict(new_inputs)

    def delete(self, type_: str, id_: str, inputs: Values, outputs: Values, context: Context) -> None:
        """Delete and wait until it is gone; an absent object is success."""

    def invoke(self, token: str, args: Values) -> dict[str, Any]:
        """Call a function; runs in previews too."""
        raise ProviderError(f"the embedded engine has no function {token}")

    def construct(self, type_: str, name: str, inputs: Values, context: Context) -> list[Child] | None:
        """Return the children of a remote component, or None where the type is none."""
        return None

    def moved(self, old_config: Values) -> tuple[str, ...]:
        """Return the provider resource's properties by which this provider acts elsewhere than with `old_config`.

        All its resources are then replaced: those on another cluster, say. Empty where it is the same place.
        """
        return ()
