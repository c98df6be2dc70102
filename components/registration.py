"""How far each VM has come, as the mesh itself says.

Runs the same reader as `make status`. It has no dependency on any VM, so that a VM that fails takes nothing away from
what is said about the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pulumi

from components.common import known
from components.hooks import in_thread
from registration.ladder import DeclaredVm
from registration.reader import Sources, read
from registration.report import evidence_of

WAIT_SECONDS = 60.0
"""How long `up` waits for VMs that it has just set up to become complete."""


@dataclass(frozen=True, kw_only=True)
class RegistrationArgs:
    """Whose registration to read."""

    sources: Sources
    """The cluster, and a way to probe VMs."""
    vms: Sequence[DeclaredVm]
    steps: Mapping[str, Mapping[str, pulumi.Output[Any]]]
    """VM name -> what its steps put out, by resource name, in the order in which they run."""
    drift: Mapping[str, str] = field(default_factory=dict)
    """VM name -> what differs on it from how it was left, in a line. In a preview only: `up` puts it back."""


class Registration(pulumi.ComponentResource):
    """The ladder of every declared VM. Creates nothing.

    Outputs: `report`, with `summary` (count per state) and `vms`. It is whole whatever failed.
    """

    report: pulumi.Output[dict[str, Any]]
    """What `registration.report.report` makes."""

    def __init__(self, name: str, args: RegistrationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:Registration", name, None, opts)
        # A coroutine, not `Output.all`: that would carry the steps' dependencies, and with one failed VM be unknown.
        self.report = pulumi.Output.from_input(_read(args, preview=pulumi.runtime.is_dry_run()))
        self.register_outputs({"report": self.report})


async def _read(args: RegistrationArgs, *, preview: bool) -> dict[str, Any]:
    """The report, once every step of every VM has ended one way or the other."""
    evidence = {}
    for vm, steps in args.steps.items():
        outputs = {step: _text(await known(output)) for step, output in steps.items()}
        evidence[vm] = replace(evidence_of(outputs, preview=preview), drift=args.drift.get(vm, "") if preview else "")
    found, _ = await in_thread(read, args.vms, evidence, args.sources, 0 if preview else WAIT_SECONDS)
    return found


def _text(value: object) -> str | None:
    return None if value is None else str(value)
