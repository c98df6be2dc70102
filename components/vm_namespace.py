"""A namespace of the stack, with the identities that VMs in it bear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi

from components.kubernetes_object import kubernetes_object


@dataclass(frozen=True, kw_only=True)
class VmNamespaceArgs:
    """Who lives in the namespace."""

    service_accounts: Sequence[str] = ()
    """Names, without repetition; `default` is there anyway."""
    injection: str = "disabled"
    """Which pods get a sidecar: `enabled`, `disabled`, `byPod`, or a revision or tag."""
    revision: str = ""
    """The control plane's, which injects where `enabled` says no other."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """More labels of the namespace."""


def injection_labels(injection: str, revision: str) -> dict[str, str]:
    """The labels by which istiod's webhooks know which pods to inject (`manifests/charts/istio-control`).

    `istio-injection: enabled` means the default revision, so another control plane is named. Without any of the two
    labels, a pod's own decides.
    """
    if injection == "byPod":
        return {}
    if injection == "disabled" or (injection == "enabled" and not revision):
        return {"istio-injection": injection}
    return {"istio.io/rev": revision if injection == "enabled" else injection}


class VmNamespace(pulumi.ComponentResource):
    """A namespace, named like the component, and service accounts.

    It is the same component whether VMs live in it or not: a namespace in which the first VM appears stays what it is.

    Creates a Namespace and ServiceAccounts. A changed name replaces all of them.

    Outputs: none. Depend on `ready` before using an account.
    """

    ready: tuple[pulumi.Resource, ...]
    """The namespace and its service accounts."""

    def __init__(self, name: str, args: VmNamespaceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:VmNamespace", name, None, opts)
        labels = {**args.labels, **injection_labels(args.injection, args.revision)}
        namespace = kubernetes_object(
            f"{name}-namespace",
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
            pulumi.ResourceOptions(parent=self),
        )
        accounts = [
            kubernetes_object(
                f"{name}-{account}",
                {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": name}},
                pulumi.ResourceOptions(parent=self, depends_on=[namespace]),
            )
            for account in args.service_accounts
            if account != "default"
        ]
        self.ready = (namespace, *accounts)
        self.register_outputs({})
