"""What a VM proves itself to istiod with: a short-lived token, bound to a Secret that revokes it when it goes.

A token's number is part of its Secret's name. A need for a new one shows in a plan as a replaced Secret, with the
reason in an annotation; the old Secret, and with it the old token, goes once the new one is in use.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_command as command
import pulumi_kubernetes as kubernetes
from pulumi.output import UNKNOWN

from components.kubectl import ClusterAccess, create_token
from registration.credentials import (
    BECAUSE,
    ENTRY,
    IDENTITY,
    RENEW,
    VM_LABEL,
    Holder,
    Request,
    Wanted,
    secret_name,
)
from registration.pipe import dump


@dataclass(frozen=True, kw_only=True)
class CredentialsArgs:
    """Whose credentials to look after."""

    access: ClusterAccess
    holders: Sequence[Holder]
    token_minutes: int


class Credentials(pulumi.ComponentResource):
    """Which token each VM is to have, by what the cluster shows at this moment. Creates nothing.

    One look for all VMs, in previews too: a new token is seen in the plan before it is minted.

    Outputs: none. `wanted` says it to the VMs.
    """

    wanted: Mapping[str, pulumi.Output[Wanted]]
    """By VM name."""

    def __init__(self, name: str, args: CredentialsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:Credentials", name, None, opts)
        request = Request(
            holders=tuple(args.holders),
            token_seconds=60 * args.token_minutes,
            kubeconfig=args.access.kubeconfig,
            context=args.access.context,
        )
        found = command.local.run_output(
            command=f"{shlex.quote(sys.executable)} -m registration.credential_reader",
            stdin=dump(request),
            logging=command.local.Logging.NONE,
            add_previous_output_in_env=False,
            opts=pulumi.InvokeOutputOptions(parent=self),
        ).stdout.apply(json.loads)
        self.wanted = {holder.vm.name: _token_of(found, holder.vm.name) for holder in args.holders}
        self.register_outputs({})


@dataclass(frozen=True, kw_only=True)
class CredentialArgs:
    """Whose token it is, and which one."""

    access: ClusterAccess
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
    wanted: pulumi.Input[Wanted]
    """Which token it is to have."""
    triggers: Sequence[pulumi.Input[str]] = ()
    """What makes it mint anew besides: what takes the certificate from the VM."""


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A token and the Secret that it is bound to."""

    secret: kubernetes.core.v1.Secret
    token: command.local.Command


def object_metadata(args: CredentialArgs, wanted: Wanted) -> dict[str, Any]:
    """Metadata of the Secret, and of the mark that its token was used."""
    annotations = {IDENTITY: args.identity, ENTRY: args.entry}
    if wanted.because:
        annotations[BECAUSE] = wanted.because
    if args.renew:
        annotations[RENEW] = "true"
    return {
        "name": secret_name(args.vm, wanted.number),
        "namespace": args.namespace,
        "labels": {VM_LABEL: args.vm},
        "annotations": annotations,
    }


def token_command(args: CredentialArgs, metadata: Any) -> Any:
    """The command that mints the token, bound to this very Secret; unknown until the cluster has given it a uid."""
    if not metadata.uid:
        return UNKNOWN
    return create_token(
        args.access,
        service_account=args.service_account,
        namespace=args.namespace,
        minutes=args.minutes,
        secret=metadata.name,
        secret_uid=metadata.uid,
    )


def issue(
    args: CredentialArgs,
    parent: pulumi.Resource,
    *,
    after: Sequence[pulumi.Resource],
    before_token: Sequence[pulumi.Resource],
) -> Credential:
    """Make the Secret, and mint the token by a command whose output stays secret.

    Args:
        args: Whose.
        parent: The VM.
        after: What must be there first.
        before_token: What has to be done before the token's life begins.
    """
    secret = kubernetes.core.v1.Secret(
        f"{args.vm}-secret",
        metadata=_metadata(args),
        type="Opaque",
        opts=pulumi.ResourceOptions(parent=parent, depends_on=list(after)),
    )
    token = command.local.Command(
        f"{args.vm}-token",
        create=secret.metadata.apply(lambda metadata: token_command(args, metadata)),
        triggers=list(args.triggers),
        logging=command.local.Logging.NONE,
        add_previous_output_in_env=False,
        opts=pulumi.ResourceOptions(
            parent=parent,
            depends_on=[secret, *before_token],
            additional_secret_outputs=["stdout", "stderr"],
        ),
    )
    return Credential(secret=secret, token=token)


def mark_used(args: CredentialArgs, opts: pulumi.ResourceOptions) -> kubernetes.core.v1.ConfigMap:
    """Make an empty ConfigMap that tells later runs that the VM was confirmed with this token."""
    return kubernetes.core.v1.ConfigMap(f"{args.vm}-enrolled", metadata=_metadata(args), opts=opts)


def token_name(args: CredentialArgs) -> pulumi.Output[str]:
    """What tells one token of a VM from the next: the name of its Secret."""
    return _metadata(args).apply(lambda metadata: str(metadata["name"]))


def _metadata(args: CredentialArgs) -> pulumi.Output[Any]:
    return pulumi.Output.from_input(args.wanted).apply(lambda wanted: object_metadata(args, wanted))


def _token_of(found: pulumi.Output[Any], vm: str) -> pulumi.Output[Wanted]:
    return found.apply(lambda tokens: Wanted(**tokens[vm]))
