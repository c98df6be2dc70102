"""In which order VMs change: those that serve go in waves, and of all VMs only so many are under way at once.

The program keeps the order: it hands a VM's first step to the engine when its turn has come. Dependencies between VMs
would do the same, but the engine would keep them: a dead VM would be in the way of every other's removal, and VMs would
be removed one after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.common import Value, known
from registration.ladder import DeclaredVm
from registration.waves import Standing, Waves, plan, wave_size


@dataclass(frozen=True, kw_only=True)
class RolloutArgs:
    """Whose changes to put in order."""

    vms: Sequence[DeclaredVm]
    """In the order in which the VMs of a workload change."""
    max_unavailable: Mapping[str, int | str]
    """By workload: how many of its VMs may be away at once, a number or a share such as "25%"."""
    standing: Mapping[str, Standing] = field(default_factory=dict)
    """What the mesh says of every VM before anything changes."""


def under_way(workers: int | None) -> int:
    """How many VMs may be between their first step and their confirmation.

    As many as the engine has workers: a VM has one long step at a time, so no VM's confirmation ever waits behind
    steps of others until the VM takes its start back.

    Args:
        workers: The engine's `--parallel`; None where nobody knows.
    """
    return max(1, workers or 1)


def turns(args: RolloutArgs) -> dict[str, Turn]:
    """Every VM's place in the order, by VM name."""
    places = asyncio.Semaphore(under_way(pulumi.runtime.settings.SETTINGS.parallel))
    result: dict[str, Turn] = {}
    for vm in args.vms:
        mates = [mate.name for mate in args.vms if mate.workload == vm.workload]
        size = wave_size(args.max_unavailable[vm.workload], len(mates))
        result[vm.name] = Turn(vm, mates, size, args.standing, result, places)
    return result


class Turn:
    """One VM's place in the order."""

    def __init__(
        self,
        vm: DeclaredVm,
        mates: Sequence[str],
        size: int,
        standing: Mapping[str, Standing],
        turns: Mapping[str, Turn],
        places: asyncio.Semaphore,
    ) -> None:
        self._vm, self._mates, self._size = vm, mates, size
        self._standing, self._turns, self._places = standing, turns, places
        self._desired: pulumi.Output[str]
        self._done: pulumi.Output[Any]
        self._leaving: asyncio.Task[None]

    @property
    def went_back(self) -> str:
        """What `Standing.went_back` says of the VM."""
        return self._standing[self._vm.name].went_back

    def wants(self, configuration: pulumi.Output[str]) -> None:
        """Take note what the VM is to become. Every VM's is noted, and how it ends, before the program first waits."""
        self._desired = configuration

    def ends_with(self, confirmed: pulumi.Output[Any]) -> None:
        """Take note of what is known once the VM's change has worked out, and unknown if it has not."""
        self._done = confirmed

    async def comes(self) -> str:
        """Wait until the VM may change, and take a place; return why it may not, or nothing.

        A coroutine, not an Output: that would carry the other VMs' dependencies.
        """
        if pulumi.runtime.is_dry_run():
            return ""
        desired = {name: await known(self._turns[name]._desired) for name in self._mates}
        waves = plan(self._mates, self._standing, {name: want for name, want in desired.items() if want}, self._size)
        failed = []
        for name in waves.before(self._vm.name):
            if await known(self._turns[name]._done) is None:
                failed.append(name)
        refusal = halted(self._vm.workload, failed, waves)
        if not refusal:
            await self._places.acquire()
            self._leaving = asyncio.ensure_future(self._leave_place())
        return refusal

    async def _leave_place(self) -> None:
        await known(self._done)
        self._places.release()


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
        refusal = await turn.comes() if turn else ""
        return otherwise(refusal) if refusal else await text.future(with_unknowns=True)

    return pulumi.Output(text.resources(), value(), text.is_known(), text.is_secret())
