"""Decides which VMs a change may take out of the mesh at the same time, from what the mesh says of them.

Pure: no clock, no network, no Pulumi. A VM that serves nobody now (new, off, unhealthy) has nothing to lose and waits
for nobody, so a first join is as parallel as ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from registration.ladder import CONNECTED_AT, DeclaredVm, find_entry, health_condition

CONFIGURATION = "istio-vm-mesh/configuration"
"""Label of a WorkloadEntry: the configuration with which its VM has registered. The VM brings it, among its labels."""
WENT_BACK = "went-back.istio-vm-mesh"
"""Prefix of an annotation of a WorkloadGroup, named after a VM: the configuration that it went back from, and how many
times. To try the same again is then another configuration, which every step of the VM sees."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What the mesh says of one VM before anything changes."""

    serves: bool = False
    """Whether it is connected and, where the workload has a probe, `Healthy`."""
    configuration: str = ""
    """With which it has registered; empty where nobody knows."""
    went_back: str = ""
    """The configuration that it went back from last, a dot, and how many times."""


@dataclass(frozen=True, kw_only=True)
class Waves:
    """The order in which the VMs of one workload change."""

    first: tuple[str, ...] = ()
    """Those that do not serve: whatever is to be done to them is done at once, and before the waves, which would take
    more VMs away. How it ends does not matter."""
    waves: tuple[tuple[str, ...], ...] = ()
    """Those that serve and are to change, by wave."""

    def before(self, vm: str) -> tuple[str, ...]:
        """The VMs whose change has to end before the VM's may begin."""
        index = self.wave_of(vm)
        if index is None:
            return ()
        return (*self.first, *(name for wave in self.waves[:index] for name in wave))

    def wave_of(self, vm: str) -> int | None:
        """The index of the VM's wave; None where it is in none."""
        return next((index for index, wave in enumerate(self.waves) if vm in wave), None)


def wave_size(max_unavailable: int | str, vms: int) -> int:
    """How many VMs may be away at once: a number, or a share of the workload's VMs, rounded down as Kubernetes does."""
    if isinstance(max_unavailable, int):
        return max_unavailable
    return max(1, vms * int(max_unavailable.removesuffix("%")) // 100)


def plan(vms: Sequence[str], standing: Mapping[str, Standing], wanted: Mapping[str, str], size: int) -> Waves:
    """The waves of one workload.

    Args:
        vms: Its VMs in the order in which they change.
        standing: What the mesh says of each.
        wanted: The configuration that each is to have; one without it is left alone in this run.
        size: How many may be away at once.
    """
    there = [vm for vm in vms if vm in wanted]
    changing = [vm for vm in there if standing[vm].serves and standing[vm].configuration != wanted[vm]]
    return Waves(
        first=tuple(vm for vm in there if not standing[vm].serves),
        waves=tuple(tuple(changing[start : start + size]) for start in range(0, len(changing), size)),
    )


def standing_of(
    vm: DeclaredVm, entries: tuple[Mapping[str, Any], ...], groups: Iterable[Mapping[str, Any]]
) -> Standing:
    """What WorkloadEntries and WorkloadGroups say of a VM."""
    entry = find_entry(vm, entries)
    if entry is None:
        return Standing(went_back=_went_back(vm, groups))
    connected = CONNECTED_AT in (entry["metadata"].get("annotations") or {})
    condition = health_condition(entry)
    return Standing(
        serves=connected and (not vm.has_probe or (condition or {}).get("status") == "True"),
        configuration=(entry["metadata"].get("labels") or {}).get(CONFIGURATION, ""),
        went_back=_went_back(vm, groups),
    )


def _went_back(vm: DeclaredVm, groups: Iterable[Mapping[str, Any]]) -> str:
    for group in groups:
        metadata = group["metadata"]
        if (metadata.get("namespace"), metadata.get("name")) == (vm.namespace, vm.workload):
            return str((metadata.get("annotations") or {}).get(f"{WENT_BACK}/{vm.name}", ""))
    return ""


def attempts(went_back: str, configuration: str) -> int:
    """How often a VM has gone back from a configuration since it last went back from another one."""
    which, _, count = went_back.partition(".")
    return int(count) if which == configuration and count.isdecimal() else 0
