"""Reads what `waves` decides on: WorkloadEntries, and what WorkloadGroups remember of their VMs.

`python -m registration.waves_reader` takes a request on standard input and prints every declared VM's standing. It runs
before anything changes: later, the entries would say how far the change has come.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from registration.ladder import DeclaredVm
from registration.reader import ENTRIES, ApiError, kubectl_get
from registration.request import parse
from registration.waves import Standing, dump, standing_of

GROUPS = "/apis/networking.istio.io/v1/workloadgroups"


def read(vms: tuple[DeclaredVm, ...], get: Callable[[str], Mapping[str, Any] | None]) -> dict[str, Standing]:
    """The standing of each VM; where Istio's kinds are not there yet, nobody stands anywhere.

    Raises:
        ApiError: The cluster gives no answer.
    """
    entries, groups = (tuple((get(path) or {}).get("items") or ()) for path in (ENTRIES, GROUPS))
    return {vm.name: standing_of(vm, entries, groups) for vm in vms}


def main() -> int:
    """Request on standard input, standings on standard output."""
    request = parse(sys.stdin.read())
    try:
        found = read(request.vms, kubectl_get(request.kubeconfig, request.context))
    except ApiError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(dump(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
