"""What a VM proves itself to istiod with: a short-lived token, bound to a Secret that revokes it when it goes.

A token's number is part of its Secret's name. A need for a new one shows in a plan as a replaced Secret, with the
reason in an annotation; the old Secret, and with it the old token, goes once the new one is in use. The token itself is
in no state: the program mints it right before the VM enrols, where the Secret does not say that one was used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pulumi

from cluster.client import Client
from components.hooks import in_thread
from components.kubernetes_object import kubernetes_object
from registration.credentials import BECAUSE, ENTRY, IDENTITY, RENEW, USED, VM_LABEL, Wanted, secret_name

AUDIENCE = "istio-ca"


@dataclass(frozen=True, kw_only=True)
class CredentialArgs:
    """Whose token it is, and which one."""

    vm: str
    namespace: str
    service_account: str
    identity: str
    """As in `Holder`."""
    entry: str
    """Name of its WorkloadEntry."""
    renew: bool = False
    """Whether the VM stands under `renew`."""
    minutes: int
    """Life of a token."""
    wanted: Wanted
    """Which token it is to have."""

    @property
    def secret_name(self) -> str:
        """Of the Secret; tells one token of a VM from the next."""
        return secret_name(self.vm, self.wanted.number)

    @property
    def secret_path(self) -> str:
        """The Secret's path in the Kubernetes API."""
        return f"/api/v1/namespaces/{self.namespace}/secrets/{self.secret_name}"


def secret_metadata(args: CredentialArgs) -> dict[str, Any]:
    """Metadata of the Secret."""
    annotations = {IDENTITY: args.identity, ENTRY: args.entry}
    if args.wanted.because:
        annotations[BECAUSE] = args.wanted.because
    if args.renew:
        annotations[RENEW] = "true"
    return {
        "name": args.secret_name,
        "namespace": args.namespace,
        "labels": {VM_LABEL: args.vm},
        "annotations": annotations,
    }


def secret(args: CredentialArgs, opts: pulumi.ResourceOptions) -> pulumi.CustomResource:
    """The Secret, which holds nothing; one that the stack has already stays as it is where none was seen."""
    if args.wanted.unseen:
        opts.ignore_changes = ["metadata.name", f'metadata.annotations["{BECAUSE}"]']
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": secret_metadata(args), "type": "Opaque"}
    return kubernetes_object(f"{args.vm}-secret", manifest, opts)


async def token_if_needed(client: Client, args: CredentialArgs, root: str) -> str:
    """A token for the VM; empty where it has been confirmed with one of this Secret, under this root of the mesh.

    A VM that says itself that it has no certificate gets another one of the same Secret. Empty as well where the Secret
    was deleted by hand: what is revoked so stays revoked until the VM is to be renewed.

    Raises:
        ApiError: The cluster gives no answer.
    """
    found = None if args.wanted.used == root else await in_thread(client.get, args.secret_path)
    if found is None:
        return ""
    return await in_thread(
        client.create_token,
        args.namespace,
        args.service_account,
        audience=AUDIENCE,
        seconds=60 * args.minutes,
        secret=args.secret_name,
        secret_uid=found["metadata"]["uid"],
    )


async def mark_used(client: Client, args: CredentialArgs, root: str) -> None:
    """Let the Secret say that the VM was confirmed with a token of it, under this root of the mesh.

    Raises:
        ApiError: The cluster gives no answer.
    """
    await in_thread(client.patch, args.secret_path, {"metadata": {"annotations": {USED: root}}})
