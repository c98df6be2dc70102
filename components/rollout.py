"""In which order the VMs of a workload change: those that serve go in waves, and the first that fails halts the rest.

The program keeps the order: it hands a VM's first step to the engine when its turn has come. Dependencies between VMs
would do the same, but the engine would keep them: a dead VM would be in the way of every other's removal, and VMs would
be removed one after the other.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_command as command

from components.common import Value, known
from components.kubectl import ClusterAccess
from registration.ladder import DeclaredVm
from registration.pipe import dump
from registration.request import Request
from registration.waves import Standing, Waves, parse, plan, wave_size


@dataclass(frozen=True, kw_only=True)
class RolloutArgs:
    """Whose changes to put in order."""

    access: ClusterAccess
    vms: Sequence[DeclaredVm]
    """In the order in which the VMs of a workload change."""
    max_unavailable: Mapping[str, int | str]
    """By workload: how many of its VMs may be away at once, a number or a share such as "25%"."""


class Rollout(pulumi.ComponentResource):
    """What the mesh says of every VM before anything changes, and whose turn it is. Creates nothing.

    Outputs: none. `turns` says it to the VMs.
    """

    turns: Mapping[str, Turn]
    """By VM name."""

    def __init__(self, name: str, args: RolloutArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:Rollout", name, None, opts)
        request = Request(
            vms=tuple(args.vms), evidence={}, kubeconfig=args.access.kubeconfig, context=args.access.context
        )
        standing = command.local.run_output(
            command=f"{shlex.quote(sys.executable)} -m registration.waves_reader",
            stdin=dump(request),
            logging=command.local.Logging.NONE,
            add_previous_output_in_env=False,
            opts=pulumi.InvokeOutputOptions(parent=self),
        ).stdout.apply(parse)
        turns: dict[str, Turn] = {}
        for vm in args.vms:
            mates = [mate.name for mate in args.vms if mate.workload == vm.workload]
            size = wave_size(args.max_unavailable[vm.workload], len(mates))
            turns[vm.name] = Turn(vm, mates, size, standing, turns)
        self.turns = turns
        self.register_outputs({})


class Turn:
    """One VM's place in the order."""

    def __init__(
        self,
        vm: DeclaredVm,
        mates: Sequence[str],
        size: int,
        standing: pulumi.Output[Mapping[str, Standing]],
        turns: Mapping[str, Turn],
    ) -> None:
        self._vm, self._mates, self._size, self._standing, self._turns = vm, mates, size, standing, turns
        self._wanted: pulumi.Output[str]
        self._done: pulumi.Output[Any]

    @property
    def went_back(self) -> pulumi.Output[str]:
        """What `Standing.went_back` says of the VM."""
        return self._standing.apply(lambda found: found[self._vm.name].went_back)

    def wants(self, configuration: pulumi.Output[str]) -> None:
        """Say what the VM is to become. Every VM does, and then how it ends, before the program first waits."""
        self._wanted = configuration

    def ends_with(self, confirmed: pulumi.Output[Any]) -> None:
        """Say what is known once the VM's change has worked out, and unknown if it has not."""
        self._done = confirmed

    async def refusal(self) -> str:
        """Wait until the VM may change; return why it may not, or nothing.

        A coroutine, not an Output: that would carry the other VMs' dependencies.
        """
        if pulumi.runtime.is_dry_run():
            return ""
        standing = await known(self._standing)
        wanted = {name: await known(self._turns[name]._wanted) for name in self._mates}
        if standing is None:
            return "nobody knows which VMs serve now: the cluster gave no answer"
        waves = plan(self._mates, standing, {name: want for name, want in wanted.items() if want}, self._size)
        failed = []
        for name in waves.before(self._vm.name):
            if await known(self._turns[name]._done) is None:
                failed.append(name)
        return halted(self._vm.workload, failed, waves)


def halted(workload: str, failed: Sequence[str], waves: Waves) -> str:
    """What a VM says whose turn does not come: where the change has stopped, and how far it has come.

    Args:
        workload: Its name.
        failed: VMs before it that have failed, or whose turn has not come either.
        waves: All of them.
    """
    stops = [index for index, wave in enumerate(waves.waves) if set(wave) & set(failed)]
    if not stops:
        return ""
    upto = waves.waves[: stops[0] + 1]
    stopped = [name for name in upto[-1] if name in failed]
    changed = [name for wave in upto for name in wave if name not in failed]
    rest = [name for wave in waves.waves[stops[0] + 1 :] for name in wave]
    return (
        f"the change of {workload} has stopped at {', '.join(stopped)}, in wave {stops[0] + 1} of {len(waves.waves)}; "
        f"changed: {', '.join(changed) or 'none'}; left as they are: {', '.join(rest)}"
    )


def in_turn(text: pulumi.Output[Value], turn: Turn | None, otherwise: Callable[[str], Value]) -> pulumi.Output[Value]:
    """The text once the turn has come; where it does not come, what `otherwise` makes of the reason.

    Nothing of the step that takes it reaches the engine before that.
    """

    async def value() -> Any:
        refusal = await turn.refusal() if turn else ""
        return otherwise(refusal) if refusal else await text.future(with_unknowns=True)

    return pulumi.Output(text.resources(), value(), text.is_known(), text.is_secret())
