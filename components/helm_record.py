"""Takes over a Helm release that a killed run has begun: Helm installs nothing under a name that it has noted down.

pulumi-kubernetes takes over other objects itself, and Helm's own `--replace` a release that failed, but not one that is
`pending-install`.
"""

from __future__ import annotations

from typing import Any

import pulumi

from cluster.client import Client
from components.hooks import in_thread
from components.take_over import takes_over


def forget(client: Client, namespace: str, release: str) -> None:
    """Delete Helm's records of a release. What it has installed stays, and bears the release's name: Helm adopts it.

    Helm keeps a Secret for each revision, found by these labels: `pkg/storage/driver/secrets.go`.
    """
    client.delete(f"/api/v1/namespaces/{namespace}/secrets", f"owner=helm,name={release}")


def forgotten_first(client: Client, namespace: str, release: str) -> pulumi.ResourceHookBinding | None:
    """What lets a release be created that is there already, if this run takes over what exists; None if it does not."""
    if not takes_over():
        return None

    async def forget_it(_: pulumi.ResourceHookArgs) -> None:
        await in_thread(forget, client, namespace, release)

    hooks: list[Any] = [pulumi.ResourceHook(f"forget-{release}", forget_it)]
    return pulumi.ResourceHookBinding(before_create=hooks)
