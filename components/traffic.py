"""How the mesh sends traffic to a host: at most one DestinationRule and one VirtualService.

Neither says anything of TLS: without it clients keep the mesh's automatic mutual TLS, and plain text where a VM has no
sidecar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_command as command
import pulumi_kubernetes as kubernetes

from components.common import ISTIO_API
from components.entry import FORGOTTEN_SECONDS
from components.kubernetes_object import kubernetes_object


@dataclass(frozen=True, kw_only=True)
class TrafficPolicyArgs:
    """What holds for requests to a host."""

    host: str
    """Its full name."""
    namespace: str
    """The host's own namespace: a DestinationRule elsewhere would not hold for clients in other namespaces."""
    subsets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels of each subset's VMs and pods, by name."""
    moving: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The same of those that a migration is between. Each has a DestinationRule of its own, which goes only once no
    route leads to it any more."""
    policy: Mapping[str, Any] = field(default_factory=dict)
    """`spec.trafficPolicy` of the DestinationRule."""
    rules: Sequence[Mapping[str, Any]] = ()
    """`spec.http` of the VirtualService; the first that matches a request holds."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Annotations of the VirtualService."""
    after: Sequence[pulumi.Resource] = ()
    """What must be there first: the control plane and the namespace."""


UNSEEN_BY_ANALYZE = {"galley.istio.io/analyze-suppress": "IST0173"}
"""`istioctl analyze` looks for pods alone behind a subset, and would call one of VMs an error."""


def _object(kind: str, args: TrafficPolicyArgs, spec: Mapping[str, Any]) -> dict[str, Any]:
    # Named like the host, which no two hosts of a namespace share; short names would collide.
    metadata: dict[str, Any] = {"name": args.host, "namespace": args.namespace}
    if "subsets" in spec:
        metadata["annotations"] = UNSEEN_BY_ANALYZE
    return {"apiVersion": ISTIO_API, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def destination_rule(args: TrafficPolicyArgs) -> dict[str, Any] | None:
    """The DestinationRule's manifest; None where the host needs none."""
    if not args.subsets and not args.policy:
        return None
    spec: dict[str, Any] = {"host": args.host}
    if args.subsets:
        spec["subsets"] = [{"name": name, "labels": dict(labels)} for name, labels in args.subsets.items()]
    if args.policy:
        spec["trafficPolicy"] = dict(args.policy)
    return _object("DestinationRule", args, spec)


def moving_subset(name: str, args: TrafficPolicyArgs) -> dict[str, Any]:
    """The DestinationRule of one subset of a migration; istiod lays all those of a host together.

    https://istio.io/latest/docs/ops/best-practices/traffic-management/#split-virtual-services
    """
    spec = {"host": args.host, "subsets": [{"name": name, "labels": dict(args.moving[name])}]}
    manifest = _object("DestinationRule", args, spec)
    return {**manifest, "metadata": {**manifest["metadata"], "name": f"{name}.{args.host}"}}


def virtual_service(args: TrafficPolicyArgs) -> dict[str, Any] | None:
    """The VirtualService's manifest; None where the host needs none."""
    if not args.rules:
        return None
    manifest = _object("VirtualService", args, {"hosts": [args.host], "http": [dict(rule) for rule in args.rules]})
    if args.annotations:
        manifest["metadata"]["annotations"] = dict(args.annotations)
    return manifest


class TrafficPolicy(pulumi.ComponentResource):
    """What holds for requests to a host.

    Creates a DestinationRule where there are subsets or a policy, and after it a VirtualService where there are rules,
    since a route to a subset that is not there yet would fail. Each subset of a migration has a DestinationRule of its
    own, and a Command that waits, when it goes, until no proxy leads there. Another host or namespace replaces them.

    Outputs: `host`.
    """

    ready: tuple[pulumi.Resource, ...]
    """What holds once it is there."""

    def __init__(self, name: str, args: TrafficPolicyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:TrafficPolicy", name, None, opts)
        made: list[pulumi.Resource] = [
            self._moving(f"{name}-{subset}", moving_subset(subset, args), args.after) for subset in args.moving
        ]
        for role, manifest in (
            ("destination-rule", destination_rule(args)),
            ("virtual-service", virtual_service(args)),
        ):
            if manifest is not None:
                child = pulumi.ResourceOptions(parent=self, depends_on=[*args.after, *made])
                made.append(kubernetes_object(f"{name}-{role}", manifest, child))
        self.ready = tuple(made)
        self.register_outputs({"host": args.host})

    def _moving(
        self, name: str, manifest: Mapping[str, Any], after: Sequence[pulumi.Resource]
    ) -> kubernetes.apiextensions.CustomResource:
        """Make the DestinationRule of a subset that is to go after the routes to it, not before."""
        child = pulumi.ResourceOptions(parent=self, depends_on=list(after))
        subset = kubernetes_object(f"{name}-subset", manifest, child)
        command.local.Command(
            f"{name}-unused",
            create=":",
            delete=f"sleep {FORGOTTEN_SECONDS}",
            opts=pulumi.ResourceOptions(parent=self, depends_on=[subset]),
        )
        return subset
