"""A namespace for workloads on VMs, with the identities that they bear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes


@dataclass(frozen=True, kw_only=True)
class VmNamespaceArgs:
    """Who lives in the namespace."""

    service_accounts: Sequence[str]
    """Names, without repetition; `default` is there anyway."""


class VmNamespace(pulumi.ComponentResource):
    """A namespace, named like the component, whose pods are never injected, and service accounts.

    Creates a Namespace and ServiceAccounts. A changed name replaces all of them.

    Outputs: none. Depend on `ready` before using an account.
    """

    ready: tuple[pulumi.Resource, ...]
    """The namespace and its service accounts."""

    def __init__(self, name: str, args: VmNamespaceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:VmNamespace", name, None, opts)
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": name, "labels": {"istio-injection": "disabled"}},
            opts=pulumi.ResourceOptions(parent=self),
        )
        accounts = [
            kubernetes.core.v1.ServiceAccount(
                f"{name}-{account}",
                metadata={"name": account, "namespace": name},
                opts=pulumi.ResourceOptions(parent=self, depends_on=[namespace]),
            )
            for account in args.service_accounts
            if account != "default"
        ]
        self.ready = (namespace, *accounts)
        self.register_outputs({})
