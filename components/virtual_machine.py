"""One VM in the mesh: what is set up on the host, the credential it enrols with, and the proof that it runs.

The host's own part is decided by `hosts`; this carries it there, in an order in which nothing is half done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pulumi
import pulumi_command as command

from components.common import certain
from components.credential import issue, mark_used, token_name
from components.departure import departure, departure_command
from components.entry import come_back, entry_commands, leave, returned, withdraw
from components.package_copy import package_copies
from components.rollout import in_turn
from components.ssh import connection_args
from components.vm_plan import VirtualMachineArgs, credential_args, desired_host, entry_args, halt, refusal
from hosts.plan import DesiredHost, configure, confirm, drain, enrol, take_down, unconfigure

TAKING_BACK_SECONDS = 30
"""How long a VM may take to answer again after its time has run out."""


class VirtualMachine(pulumi.ComponentResource):
    """A VM whose sidecar is installed, enrolled and confirmed.

    Creates, in this order: `configure` (the host's package and files), a Secret that the token is bound to, `token`,
    `entry` (takes a VM that changes out of the mesh), `enrol` (takes the token and starts the sidecar), `healthy`
    (waits until a VM that has changed is in the mesh again), `confirm` (its evidence, or the way back), `returned`
    (waits again, where the sidecar had to start twice) and `enrolled` (a mark that the token was used). Deletion goes
    the other way: the sidecar drains and stops, its entry goes, the token is revoked, the host is as it was; of a VM
    that may leave unreachable, `departure` does that. A changed address replaces all of them, a new token the Secret
    and mark.

    Outputs: `steps`, each step's standard output by resource name.
    """

    confirmed: pulumi.Resource
    """The last step, which is there once the VM is in the mesh as the stack declares it."""
    steps: Mapping[str, pulumi.Output[Any]]
    """What shows how far the VM has come, in the order in which it happens; never secret."""

    def __init__(self, name: str, args: VirtualMachineArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:VirtualMachine", name, None, opts)
        went_back = args.turn.went_back if args.turn else ""
        host = pulumi.Output.all(args.root_certificate, args.istiod_address, args.istiod_port, went_back).apply(
            lambda known: desired_host(name, args, *known)
        )

        def on_host(text: Callable[[DesiredHost], str]) -> pulumi.Output[str]:
            return certain(host.apply(text), refusal(name))

        def on_mesh(text: Callable[[DesiredHost], str]) -> pulumi.Output[str]:
            return certain(host.apply(text), "exit 1")

        def child(*depends_on: pulumi.Resource, **options: Any) -> pulumi.ResourceOptions:
            return pulumi.ResourceOptions(parent=self, depends_on=list(depends_on), **options)

        def step(*depends_on: pulumi.Resource) -> pulumi.ResourceOptions:
            # What was repaired last is known to the VM alone: one that does not answer keeps the command that it has.
            # One that may leave without an answer is taken down by its departure.
            return child(
                *depends_on,
                ignore_changes=["create"] if args.found.unknown else None,
                retain_on_delete=args.remove_unreachable or None,
            )

        configured = _on_host(
            f"{name}-configure",
            args,
            create=in_turn(
                on_host(lambda desired: configure(desired, args.found.record).command),
                args.turn,
                lambda reason: halt(name, reason),
            ),
            stdin=on_host(lambda desired: configure(desired).stdin),
            delete=on_host(unconfigure),
            opts=step(
                *args.after,
                *package_copies(name, args.address, connection_args(args.ssh, args.bastion), args.packages, self),
            ),
        )
        holder, place = credential_args(name, args), entry_args(name, args)
        credential = issue(holder, self, after=args.after, before_token=[configured])
        # Made too: the machine may be in the mesh already, as a VM of another name.
        # Deleted before it is made anew: afterwards the sidecar may have registered again, under the same name.
        entry = _local(
            f"{name}-entry",
            **entry_commands(place),
            create=on_mesh(lambda desired: leave(place, desired.configuration)),
            opts=child(configured, delete_before_replace=True),
        )
        enrolled = _on_host(
            f"{name}-enrol",
            args,
            create=on_host(lambda desired: enrol(desired, args.found.mark).command),
            # Made secret only where it is known: an unknown secret, after a failed token, would end the whole program
            # ("malformed RPC secret"), and with it every output.
            stdin=credential.token.stdout.apply(lambda text: pulumi.Output.secret(text)),
            delete=on_host(drain),
            opts=step(entry),
        )
        healthy = _local(
            f"{name}-healthy",
            create=":",
            update=on_mesh(lambda desired: come_back(place, desired.configuration)),
            delete=withdraw(place),
            opts=child(enrolled),
        )
        confirmed = _on_host(
            f"{name}-confirm",
            args,
            # A VM that is locked out answers again when it has taken the start back, and then says so.
            outlast=args.confirm_within + TAKING_BACK_SECONDS,
            create=on_host(lambda desired: confirm(desired, args.found.mark).command),
            # The first line is not read there: a VM with a new token is confirmed anew.
            stdin=pulumi.Output.all(token_name(holder), healthy.stdout).apply(
                lambda told: "\n".join(filter(None, told))
            ),
            opts=step(enrolled),
        )
        back = _local(
            f"{name}-returned",
            create=":",
            update=on_mesh(lambda desired: returned(place, desired.configuration)),
            stdin=healthy.stdout,
            opts=child(confirmed),
        )
        if args.remove_unreachable:
            departure(
                f"{name}-departure",
                args.ssh,
                args.bastion,
                text=departure_command(
                    name,
                    args.ssh,
                    args.bastion,
                    on_vm=take_down(args.address, name),
                    then=str(entry_commands(place)["delete"]),
                ),
                triggers=[args.address],
                opts=child(credential.secret, *args.after),
            )
        if args.turn:
            args.turn.wants(host.apply(lambda desired: desired.configuration))
            args.turn.ends_with(back.stdout)
        mark_used(holder, child(confirmed))
        self.confirmed = back
        self.steps = {
            f"{name}-configure": configured.stdout,
            f"{name}-secret": credential.secret.id,
            f"{name}-token": credential.token.id,
            f"{name}-entry": entry.stdout,
            f"{name}-enrol": enrolled.stdout,
            f"{name}-healthy": healthy.stdout,
            f"{name}-confirm": confirmed.stdout,
        }
        self.register_outputs({})


def _on_host(name: str, args: VirtualMachineArgs, outlast: int = 0, **inputs: Any) -> command.remote.Command:
    """A command on the VM. No logging: an endless line of output would block it, and errors bring the output anyway."""
    return command.remote.Command(
        name,
        connection=connection_args(args.ssh, args.bastion, outlast=outlast),
        triggers=[args.address],
        logging=command.remote.Logging.NONE,
        add_previous_output_in_env=False,
        **inputs,
    )


def _local(name: str, **inputs: Any) -> command.local.Command:
    """A command where Pulumi runs. The last output stays out of its environment: it may be a token."""
    return command.local.Command(name, logging=command.local.Logging.NONE, add_previous_output_in_env=False, **inputs)
