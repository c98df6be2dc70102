"""How the mesh sends traffic to a host: at most one DestinationRule and one VirtualService.

Neither says anything of TLS: without it clients keep the mesh's automatic mutual TLS, and plain text where a VM has no
sidecar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.common import ISTIO_API, istio_object


@dataclass(frozen=True, kw_only=True)
class TrafficPolicyArgs:
    """What holds for requests to a host."""

    host: str
    """Its full name."""
    namespace: str
    """The host's own namespace: a DestinationRule elsewhere would not hold for clients in other namespaces."""
    subsets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Labels of each subset's VMs and pods, by name."""
    policy: Mapping[str, Any] = field(default_factory=dict)
    """`spec.trafficPolicy` of the DestinationRule."""
    rules: Sequence[Mapping[str, Any]] = ()
    """`spec.http` of the VirtualService; the first that matches a request holds."""
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


def virtual_service(args: TrafficPolicyArgs) -> dict[str, Any] | None:
    """The VirtualService's manifest; None where the host needs none."""
    if not args.rules:
        return None
    return _object("VirtualService", args, {"hosts": [args.host], "http": [dict(rule) for rule in args.rules]})


class TrafficPolicy(pulumi.ComponentResource):
    """What holds for requests to a host.

    Creates a DestinationRule where there are subsets or a policy, and after it a VirtualService where there are rules,
    since a route to a subset that is not there yet would fail. Another host or namespace replaces them.

    Outputs: `host`.
    """

    ready: tuple[pulumi.Resource, ...]
    """What holds once it is there."""

    def __init__(self, name: str, args: TrafficPolicyArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:TrafficPolicy", name, None, opts)
        made: list[pulumi.Resource] = []
        for role, manifest in (
            ("destination-rule", destination_rule(args)),
            ("virtual-service", virtual_service(args)),
        ):
            if manifest is not None:
                child = pulumi.ResourceOptions(parent=self, depends_on=[*args.after, *made])
                made.append(istio_object(f"{name}-{role}", manifest, child))
        self.ready = tuple(made)
        self.register_outputs({"host": args.host})
