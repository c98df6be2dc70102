"""What a VM proves itself to istiod with: a short-lived token, bound to a Secret that revokes it when it goes.

A token's number is part of its Secret's name. A need for a new one shows in a plan as another name, with the reason
beside it; the old Secret, and with it the old token, goes once the new one is in use. Neither is a resource: the
program makes the Secret before the VM's entry, and mints the token right before the VM enrols, where the Secret does
not say that one was used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.client import ApiError, Client
from cluster.objects import secrets_path
from components.hooks import in_thread
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
        return f"{secrets_path(self.namespace)}/{self.secret_name}"


_SECRET = "SECRET"
"""The key under which a plan shows the Secret."""
_ANNOTATIONS = {"IDENTITY": IDENTITY, "BECAUSE": BECAUSE, "RENEW": RENEW}
"""The other keys, and the Secret's annotations that they are."""


def shown(args: CredentialArgs) -> dict[str, str]:
    """What a plan shows of the Secret, and the engine remembers."""
    facts = {
        _SECRET: f"{args.namespace}/{args.secret_name}",
        "IDENTITY": args.identity,
        "BECAUSE": args.wanted.because,
        "RENEW": "true" if args.renew else "",
    }
    return {key: value for key, value in facts.items() if value or key == "IDENTITY"}


def left_as_shown(args: CredentialArgs) -> list[str]:
    """The keys that stay as they were shown before: of a VM of which no Secret was seen, the one that it has stays."""
    return [_SECRET, "BECAUSE"] if args.wanted.unseen else []


async def keep_secret(client: Client, args: CredentialArgs, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Make the Secret, which holds nothing, or let it say what it is to say.

    One that was deleted by hand is not made again under its old name: what is revoked so stays revoked. Secrets in the
    namespace that the VM has left go.

    Args:
        client: The cluster.
        args: Whose Secret it is.
        before: What was `shown` of it; nothing where the VM is new.
        now: What is shown of it. It has another name than `args` where no Secret was seen, and the stack has one.

    Raises:
        ApiError: The cluster refuses, or gives no answer.
    """
    path, (_, _, name) = secrets_path(args.namespace), now[_SECRET].partition("/")
    annotations = {ENTRY: args.entry, **{annotation: now.get(key) for key, annotation in _ANNOTATIONS.items()}}
    made = before.get(_SECRET) != now[_SECRET]
    if made:
        metadata = {
            "name": name,
            "labels": {VM_LABEL: args.vm},
            "annotations": {key: value for key, value in annotations.items() if value is not None},
        }
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque"}
        try:
            await in_thread(client.post, path, secret)
        except ApiError as error:
            if error.status != 409:
                raise
            made = False  # by a run that was killed
    if not made:
        try:
            await in_thread(client.patch, f"{path}/{name}", {"metadata": {"annotations": annotations}})
        except ApiError as error:
            if error.status != 404:
                raise
    left, _, _ = before.get(_SECRET, now[_SECRET]).partition("/")
    if left != args.namespace:
        await _delete_others(client, left, args.vm, "")


async def _delete_others(client: Client, namespace: str, vm: str, name: str) -> None:
    """Delete the Secrets of a VM in a namespace but for one."""
    path = secrets_path(namespace)
    for secret in await in_thread(client.items, path, f"{VM_LABEL}={vm}"):
        other = secret["metadata"]["name"]
        if other != name:
            await in_thread(client.delete, f"{path}/{other}")


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
    """Let the Secret say that the VM was confirmed with a token of it, under this root of the mesh; older ones go.

    Raises:
        ApiError: The cluster gives no answer.
    """
    if args.wanted.number > 1:
        await _delete_others(client, args.namespace, args.vm, args.secret_name)
    await in_thread(client.patch, args.secret_path, {"metadata": {"annotations": {USED: root}}})
