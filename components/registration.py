"""How far each VM has come, as the mesh itself says.

Runs the same reader as `make status`. It has no dependency on any VM, so that a VM that fails takes nothing away from
what is said about the others.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pulumi
import pulumi_command as command

from components.common import known
from components.kubectl import ClusterAccess
from registration.ladder import DeclaredVm
from registration.pipe import dump
from registration.request import Request, evidence_of

WAIT_SECONDS = 60.0
"""How long `up` waits for VMs that it has just set up to become complete."""


@dataclass(frozen=True, kw_only=True)
class RegistrationArgs:
    """Whose registration to read."""

    access: ClusterAccess
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
    """What `registration.request.report` makes."""

    def __init__(self, name: str, args: RegistrationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:Registration", name, None, opts)
        result = command.local.run_output(
            command=f"{shlex.quote(sys.executable)} -m registration.reader",
            stdin=pulumi.Output.from_input(_request(args, pulumi.runtime.is_dry_run())),
            logging=command.local.Logging.NONE,
            add_previous_output_in_env=False,
            opts=pulumi.InvokeOutputOptions(parent=self),
        )
        self.report = result.stdout.apply(json.loads)
        self.register_outputs({"report": self.report})


async def _request(args: RegistrationArgs, preview: bool) -> str:
    """The request, once every step of every VM has ended one way or the other.

    A coroutine, not `Output.all`: an Output would carry the steps' dependencies, and with one failed VM be unknown.
    """
    evidence = {}
    for vm, steps in args.steps.items():
        outputs = {step: _text(await known(output)) for step, output in steps.items()}
        evidence[vm] = replace(evidence_of(outputs, preview=preview), drift=args.drift.get(vm, "") if preview else "")
    return dump(
        Request(
            vms=tuple(args.vms),
            evidence=evidence,
            kubeconfig=args.access.kubeconfig,
            context=args.access.context,
            deadline_seconds=0 if preview else WAIT_SECONDS,
        )
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
