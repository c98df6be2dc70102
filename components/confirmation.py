"""That the control plane works, as the cluster and istiod themselves say, once everything else has ended.

A reader and no resource: it makes nothing, and whatever it finds, it fails nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pulumi

from cluster.client import Client
from components.hooks import in_thread
from components.values import plain_revision
from registration.ladder import State
from registration.mesh_reader import Cluster, read
from registration.mesh_state import Request, Workload

WAIT_SECONDS = 20.0
"""How long `up` waits for what is not ready yet."""
PREVIEW_SECONDS = 3.0
"""The same in a preview, where only a push of istiod's may be under way."""


@dataclass(frozen=True, kw_only=True)
class ConfirmationArgs:
    """Which control plane to look at."""

    client: Client
    revision: str
    workloads: Sequence[Workload]
    """Deployments and DaemonSets that must be ready."""
    vm_namespaces: Sequence[str]
    has_istiod: bool = True
    """Whether istiod runs in this cluster."""
    after: pulumi.Output[Any]
    """The VMs' registration: known once all has ended, one way or the other."""


def connected(registration: Mapping[str, Any]) -> tuple[str, ...]:
    """The VMs whose sidecars are connected, as the mesh calls them."""
    vms: Mapping[str, Mapping[str, Any]] = registration.get("vms", {})
    return tuple(
        f"{name}.{vm['namespace']}"
        for name, vm in sorted(vms.items())
        if vm["state"] == State.HEALTHY and "certificate" in vm
    )


class Confirmation(pulumi.ComponentResource):
    """What is said of the control plane. Creates nothing.

    Outputs: `report`, as `registration.mesh_state.report` makes it.
    """

    report: pulumi.Output[dict[str, Any]]
    """What the stack puts out under `mesh.controlPlane`."""

    def __init__(self, name: str, args: ConfirmationArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:Confirmation", name, None, opts)
        request = Request(
            revision=plain_revision(args.revision),
            workloads=tuple(args.workloads),
            vm_namespaces=tuple(sorted(args.vm_namespaces)),
            has_istiod=args.has_istiod,
            deadline_seconds=PREVIEW_SECONDS if pulumi.runtime.is_dry_run() else WAIT_SECONDS,
        )

        async def look(registration: Mapping[str, Any]) -> dict[str, Any]:
            return await in_thread(read, replace(request, vms=connected(registration)), Cluster(client=args.client))

        self.report = args.after.apply(look)
        self.register_outputs({"report": self.report})
