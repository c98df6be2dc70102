"""Reads what `waves` decides on: WorkloadEntries, and what WorkloadGroups remember of their VMs.

It is read before anything changes: later, the entries would say how far the change has come.
"""

from __future__ import annotations

from collections.abc import Sequence

from cluster.objects import ENTRIES, GROUPS, Get, items
from registration.ladder import DeclaredVm
from registration.waves import Standing, standing_of


def read(vms: Sequence[DeclaredVm], get: Get) -> dict[str, Standing]:
    """The standing of each VM; where Istio's kinds are not there yet, nobody stands anywhere.

    Raises:
        ApiError: The cluster gives no answer.
    """
    entries, groups = (tuple(items(get, path)) for path in (ENTRIES, GROUPS))
    return {vm.name: standing_of(vm, entries, groups) for vm in vms}
