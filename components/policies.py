"""Who may talk, and how: mutual TLS and access, of the mesh, of a namespace or of a workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.kubernetes_object import kubernetes_object

SECURITY_API = "security.istio.io/v1"
UNSEEN_BY_ANALYZE = {"galley.istio.io/analyze-suppress": "IST0127"}
"""`istioctl analyze` looks for pods alone behind a policy, and would say that there is nobody where there are VMs."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """A rule that lets requests in; what is empty is not asked for."""

    principals: Sequence[str] = ()
    """Identities of callers, without `spiffe://`."""
    methods: Sequence[str] = ()
    paths: Sequence[str] = ()
    ports: Sequence[int] = ()
    """Ports of the application."""


@dataclass(frozen=True, kw_only=True)
class PoliciesArgs:
    """What holds in a namespace; in `istio-system`, in the whole mesh."""

    namespace: str
    mutual_tls: str | None = None
    """STRICT, PERMISSIVE or DISABLE; None: as elsewhere in the mesh."""
    access: Sequence[Access] | None = None
    """Who is let in; None: everybody."""
    after: Sequence[pulumi.Resource] = field(default=())
    """What must be there first: the control plane and the namespace."""


def peer_authentication(args: PoliciesArgs) -> dict[str, Any]:
    """Manifest of the one PeerAuthentication that a namespace may have: with several, the oldest wins."""
    return {
        "apiVersion": SECURITY_API,
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": args.namespace},
        "spec": {"mtls": {"mode": args.mutual_tls}},
    }


def authorization_policy(
    name: str, namespace: str, rules: Sequence[Access], selector: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Manifest of a policy that lets in whom a rule speaks of, and nobody else; without any rule, nobody."""
    spec: dict[str, Any] = {"action": "ALLOW"}
    if selector:
        spec["selector"] = {"matchLabels": dict(selector)}
    if rules:
        spec["rules"] = [_rule(rule) for rule in rules]
    return {
        "apiVersion": SECURITY_API,
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": namespace, "annotations": UNSEEN_BY_ANALYZE},
        "spec": spec,
    }


def _rule(rule: Access) -> dict[str, Any]:
    """A rule of the manifest; istiod refuses empty parts of one."""
    said = {"methods": list(rule.methods), "paths": list(rule.paths), "ports": [str(port) for port in rule.ports]}
    operation = {key: values for key, values in said.items() if values}
    source = {"from": [{"source": {"principals": list(rule.principals)}}]} if rule.principals else {}
    return {**source, **({"to": [{"operation": operation}]} if operation else {})}


class Policies(pulumi.ComponentResource):
    """What holds in a namespace.

    Creates a PeerAuthentication and an AuthorizationPolicy, each where it is asked for. A changed namespace replaces
    them.

    Outputs: none.
    """

    def __init__(self, name: str, args: PoliciesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:Policies", name, None, opts)
        child = pulumi.ResourceOptions(parent=self, depends_on=list(args.after))
        if args.mutual_tls is not None:
            kubernetes_object(f"{args.namespace}-mutual-tls", peer_authentication(args), child)
        if args.access is not None:
            # No workload's policy is named so: those end in -access.
            policy = authorization_policy("namespace", args.namespace, args.access)
            kubernetes_object(f"{args.namespace}-namespace-access", policy, child)
        self.register_outputs({})
