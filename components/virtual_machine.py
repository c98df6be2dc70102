"""One VM in the mesh: what is set up on the host, the credential it enrols with, and the proof that it runs.

The host's own part is decided by `hosts`; this carries it there, in an order in which nothing is half done. What is
done while the program runs (uploads, the token, waiting for the mesh) stands in `components.vm_hooks`; what must happen
when it does not run, at deletion, is a command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pulumi
import pulumi_command as command

from components.common import alone, certain, without_stack_traces
from components.credential import left_as_shown, shown
from components.departure import leaving, membership, private_keys
from components.rollout import in_turn
from components.ssh import connection_args
from components.vm_hooks import VmHooks, confirm_command
from components.vm_plan import VirtualMachineArgs, credential_args, desired_host, entry_args, halt, refusal
from hosts.plan import DesiredHost, configure, enrol, take_down

TAKING_BACK_SECONDS = 30
"""How long a VM may take to answer again after its time has run out."""


class VirtualMachine(pulumi.ComponentResource):
    """A VM whose sidecar is installed, enrolled and confirmed.

    Creates, in this order: `configure` (the host's package and files), `membership` (its WorkloadEntry, and the Secret
    that its token is bound to, which go with it), `enrol` (starts the sidecar) and `confirm` (its evidence). Deleting
    `membership` takes the VM away: it leaves the mesh, the sidecar drains and stops, the host is as it was, the token
    is revoked. A changed address replaces all of them.

    Outputs: `steps`, each step's standard output by resource name.
    """

    confirmed: pulumi.Resource
    """The last step, which is there once the VM is in the mesh as the stack declares it."""
    steps: Mapping[str, pulumi.Output[Any]]
    """What shows how far the VM has come, in the order in which it happens; never secret."""

    def __init__(self, name: str, args: VirtualMachineArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        with without_stack_traces():
            super().__init__("istiovm:index:VirtualMachine", name, None, opts)
            self.steps = self._steps(name, args)
        self.register_outputs({})

    def _steps(self, name: str, args: VirtualMachineArgs) -> dict[str, pulumi.Output[Any]]:
        went_back = args.turn.went_back if args.turn else ""
        host = alone(
            pulumi.Output.all(args.root_certificate, args.istiod_address, args.istiod_port).apply(
                lambda known: desired_host(name, args, *known, went_back=went_back)
            )
        )
        credential, place = credential_args(name, args), entry_args(name, args)
        hooks = VmHooks(name=name, args=args, credential=credential, entry=place, host=host)

        def on_host(text: Callable[[DesiredHost], str]) -> pulumi.Output[str]:
            return certain(host.apply(text), refusal(name))

        def child(*depends_on: pulumi.Resource, **options: Any) -> pulumi.ResourceOptions:
            return pulumi.ResourceOptions(parent=self, depends_on=list(depends_on), **options)

        def step(*depends_on: pulumi.Resource, keeps: Sequence[str] = (), **options: Any) -> pulumi.ResourceOptions:
            # What was repaired last is known to the VM alone: one that does not answer keeps the command that it has.
            ignored = [*keeps, *(["create"] if args.found.unknown else [])]
            return child(*depends_on, ignore_changes=ignored, **options)

        configured = _on_host(
            f"{name}-configure",
            args,
            create=in_turn(
                on_host(lambda desired: configure(desired, args.found.record).command),
                args.turn,
                lambda reason: halt(name, reason),
            ),
            stdin=on_host(lambda desired: configure(desired).stdin),
            opts=step(*args.after, hooks=args.hooks.before(f"{name}-configure", hooks.upload)),
        )
        member = membership(
            f"{name}-membership",
            leaving(
                name,
                args.ssh,
                args.access,
                namespace=place.namespace,
                entry=place.name,
                take_down=take_down(args.address, name),
                unreachable=args.remove_unreachable,
            ),
            {**private_keys(args.ssh), **place.shown, **shown(credential)},
            args.address,
            # What is on the VM, it takes down; of one that may be dead it is to be told even where `configure` fails.
            child(
                *(args.after if args.remove_unreachable else [configured]),
                ignore_changes=[f"environment.{key}" for key in left_as_shown(credential)],
                hooks=args.hooks.before(f"{name}-membership", hooks.keep_credential),
            ),
        )
        # Not read on the VM: one that is to have another token enrols, and is confirmed, anew.
        which, kept = credential.secret_name, ["stdin"] if args.wanted_token.unseen else []
        enrolled = _on_host(
            f"{name}-enrol",
            args,
            create=on_host(lambda desired: enrol(desired, args.found.mark).command),
            stdin=which,
            opts=step(
                configured,
                member,
                keeps=kept,
                hooks=args.hooks.before(f"{name}-enrol", hooks.leave_and_get_token),
            ),
        )
        confirmed = _on_host(
            f"{name}-confirm",
            args,
            # A VM that is locked out answers again when it has taken the start back, and then says so.
            outlast=args.confirm_within + TAKING_BACK_SECONDS,
            create=on_host(lambda desired: confirm_command(desired, args.found.mark)),
            stdin=which,
            opts=step(enrolled, keeps=kept, hooks=args.hooks.before(f"{name}-confirm", hooks.come_back, create=False)),
        )
        if args.turn:
            args.turn.wants(host.apply(lambda desired: desired.configuration))
            args.turn.ends_with(confirmed.stdout)
        self.confirmed = confirmed
        return {
            f"{name}-configure": configured.stdout,
            f"{name}-membership": member.stdout,
            f"{name}-enrol": enrolled.stdout,
            f"{name}-confirm": confirmed.stdout.apply(hooks.mark_used),
        }


def _on_host(name: str, args: VirtualMachineArgs, outlast: int = 0, **inputs: Any) -> command.remote.Command:
    """A command on the VM. No logging: an endless line of output would block it, and errors bring the output anyway."""
    return command.remote.Command(
        name,
        connection=connection_args(args.ssh, outlast=outlast),
        triggers=[args.address],
        logging=command.remote.Logging.NONE,
        add_previous_output_in_env=False,
        **inputs,
    )
