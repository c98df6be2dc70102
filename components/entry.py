"""A VM's WorkloadEntry: istiod makes it when the VM connects, and what it says then it says until it goes.

So a changed VM registers anew. Its entry is deleted before the sidecar restarts, which takes the VM out of all
endpoints; afterwards the new entry is waited for, and what it says of the VM's health.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.client import Client
from cluster.objects import secrets_path
from components.hooks import in_thread
from registration.comeback import Seen, configuration_of, next_attempt, seen, why_not
from registration.credentials import ENTRY, VM_LABEL
from registration.ladder import entry_name
from registration.waves import WENT_BACK

FORGOTTEN_SECONDS = 2
"""How long after an entry's end the mesh may still send requests to its VM: istiod gathers changes for 0.1 s, and tells
the proxies then (`PILOT_DEBOUNCE_AFTER`)."""
POLL_SECONDS = 1.0
ENTRY_KEY = "ENTRY"
"""The key under which a plan shows an entry."""
_API = "/apis/networking.istio.io/v1"


@dataclass(frozen=True, kw_only=True)
class EntryArgs:
    """Whose entry it is."""

    vm: str
    address: str
    group: Mapping[str, Any]
    """Manifest of the WorkloadGroup."""
    healthy_within: int = 60
    """How many seconds the VM may take to be healthy again, once it has changed."""

    @property
    def name(self) -> str:
        """The entry's name."""
        return entry_name(self.group["metadata"]["name"], self.address, self.group["spec"]["template"]["network"])

    @property
    def namespace(self) -> str:
        """The entry's namespace."""
        return str(self.group["metadata"]["namespace"])

    @property
    def path(self) -> str:
        """Its path in the Kubernetes API."""
        return f"{_API}/namespaces/{self.namespace}/workloadentries/{self.name}"

    @property
    def shown(self) -> dict[str, str]:
        """What a plan shows of it, and the engine remembers."""
        return {ENTRY_KEY: f"{self.namespace}/{self.name}"}

    @property
    def group_path(self) -> str:
        """The WorkloadGroup's path in the Kubernetes API."""
        return f"{_API}/namespaces/{self.namespace}/workloadgroups/{self.group['metadata']['name']}"


async def leave_as(client: Client, args: EntryArgs, before: str) -> None:
    """Delete the entry that the VM had under another name, unless another VM of the stack has it by now.

    Args:
        client: The cluster.
        args: The VM's entry.
        before: Namespace and name of the one before, as a plan shows them; empty where the VM is new.

    Raises:
        ApiError: The cluster gives no answer.
    """
    if before in ("", f"{args.namespace}/{args.name}"):
        return
    namespace, _, name = before.partition("/")
    secrets = await in_thread(client.items, secrets_path(namespace), VM_LABEL)
    metadata = [secret["metadata"] for secret in secrets]
    if not any(
        other["labels"][VM_LABEL] != args.vm and (other.get("annotations") or {}).get(ENTRY) == name
        for other in metadata
    ):
        await in_thread(client.delete, f"{_API}/namespaces/{namespace}/workloadentries/{name}")
        await asyncio.sleep(FORGOTTEN_SECONDS)


async def leave(client: Client, args: EntryArgs, configuration: str) -> None:
    """Take the VM out of the mesh, unless it has registered with this configuration already.

    Raises:
        ApiError: The cluster gives no answer.
    """
    entry = await in_thread(client.get, args.path)
    if entry is not None and configuration_of(entry) != configuration:
        await in_thread(client.delete, args.path)
        await asyncio.sleep(FORGOTTEN_SECONDS)


async def back_or_why_not(client: Client, args: EntryArgs, configuration: str) -> tuple[Seen, str]:
    """Wait until the VM is in the mesh again, or has registered as it was before; return that, or why it is neither.

    Raises:
        ApiError: The cluster gives no answer.
    """
    end = time.monotonic() + args.healthy_within
    has_probe = bool(args.group["spec"].get("probe"))
    while True:
        entry = await in_thread(client.get, args.path)
        found = seen(entry, configuration, has_probe=has_probe)
        if found is not Seen.NOT_YET:
            return found, ""
        if time.monotonic() >= end:
            return found, why_not(entry, configuration, has_probe=has_probe, seconds=args.healthy_within)
        await asyncio.sleep(POLL_SECONDS)


async def remember_attempt(client: Client, args: EntryArgs, configuration: str) -> None:
    """Let the VM's group remember that it went back from the configuration, so that the next run tries again.

    Raises:
        ApiError: The cluster gives no answer.
    """
    note = {f"{WENT_BACK}/{args.vm}": next_attempt(configuration)}
    await in_thread(client.patch, args.group_path, {"metadata": {"annotations": note}})
