"""One VM in the mesh: what is set up on the host, the credential it enrols with, and the proof that it runs.

The host's own part is decided by `hosts`; this carries it there, in an order in which nothing is half done.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_command as command

from components.common import certain
from components.control_plane import certificate_digest
from components.credential import CredentialArgs, issue, mark_used, token_name
from components.departure import departure, departure_command
from components.entry import EntryArgs, come_back, entry_commands, leave
from components.kubectl import ClusterAccess
from components.package_copy import package_copies
from components.rollout import Turn, in_turn
from components.ssh import SshLogin, connection_args
from components.workload import group_of_vm
from hosts.observe import Found
from hosts.plan import (
    CONFIRM_SECONDS,
    DesiredHost,
    Package,
    Route,
    Withdrawal,
    configuration,
    configure,
    confirm,
    drain,
    enrol,
    take_down,
    unconfigure,
)
from hosts.sidecar_files import SidecarFiles, sidecar_files
from registration.credentials import Wanted
from registration.waves import CONFIGURATION, attempts

TAKING_BACK_SECONDS = 15
"""How long a VM may take to answer again after its time has run out."""


@dataclass(frozen=True, kw_only=True)
class VirtualMachineArgs:
    """What the VM is and how it is reached."""

    access: ClusterAccess
    address: str
    """IP address, for ssh and in the mesh."""
    ssh: SshLogin
    """How it is logged in to."""
    bastion: SshLogin | None = None
    """The machine through which ssh goes."""
    group: Mapping[str, Any]
    """Manifest of the WorkloadGroup."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels over the group's."""
    mesh_config: Mapping[str, Any]
    cluster: str
    """Name of the cluster in the mesh."""
    revision: str = ""
    packages: Mapping[str, Package]
    """The sidecar's packages by package manager and architecture."""
    adopt: bool = False
    """Whether a sidecar that somebody else has installed is taken over."""
    istio_version: str = ""
    """istiod's, which the package's must not be newer than; empty: not compared."""
    clock_port: int | None = None
    """Port at `istiod_address` that leads to istiod's webhooks, which tell the time; None: it is not compared."""
    istiod_host: str
    """The name that istiod's certificate bears."""
    istiod_address: pulumi.Input[str]
    """IP at which the VM reaches istiod."""
    istiod_port: pulumi.Input[int]
    routes: Sequence[Route] = ()
    """Ways into the cluster's network."""
    root_certificate: pulumi.Input[str]
    """PEM."""
    identity: str = ""
    """Whose token the VM needs, as the look at the cluster compares it."""
    token_minutes: int = 60
    """Life of a token. It is used once, seconds after it is made; the rest is for a run that is taken up again."""
    wanted_token: pulumi.Input[Wanted] = field(default_factory=Wanted)
    """Which token the VM is to have."""
    renew: bool = False
    """Whether the VM stands under `renew`."""
    found: Found = field(default_factory=Found)
    """What a look at the VM has found; by default nothing, as without one."""
    confirm_within: int = CONFIRM_SECONDS
    """Seconds after a start of the sidecar in which it must be confirmed, or the VM takes it back."""
    remove_unreachable: bool = False
    """Whether the VM may leave although it does not answer."""
    turn: Turn | None = None
    """Its place in the order in which VMs change; None: it waits for nobody."""
    after: Sequence[pulumi.Resource] = ()
    """What must be there first, and outlive the VM: gateway, namespace, WorkloadGroup."""

    @property
    def namespace(self) -> str:
        """Namespace of the VM's workload."""
        return str(self.group["metadata"]["namespace"])


def desired_host(
    name: str,
    args: VirtualMachineArgs,
    root_certificate: str,
    istiod_address: str,
    istiod_port: int,
    went_back: str = "",
) -> DesiredHost:
    """What the host is to become. It tells the mesh with which configuration, by a label that it registers with.

    Args:
        name: The VM's name.
        args: What it is.
        root_certificate: PEM.
        istiod_address: Where it reaches istiod.
        istiod_port: Where it reaches istiod.
        went_back: As in `registration.waves.Standing`.
    """

    def with_labels(labels: Mapping[str, str]) -> SidecarFiles:
        return sidecar_files(
            group=group_of_vm(args.group, labels),
            mesh_config=args.mesh_config,
            cluster_id=args.cluster,
            root_certificate=root_certificate,
            istiod_address=istiod_address,
            istiod_port=istiod_port,
            revision=args.revision,
            service_ip=args.address,
        )

    plain = configuration(with_labels(args.labels), args.packages)
    tried = attempts(went_back, plain)
    mark = f"{plain}.{tried}" if tried else plain
    return DesiredHost(
        vm=name,
        files=with_labels({**args.labels, CONFIGURATION: mark}),
        configuration=mark,
        packages=args.packages,
        istiod_host=args.istiod_host,
        istiod_address=istiod_address,
        istiod_port=istiod_port,
        routes=args.routes,
        address=args.address,
        adopt=args.adopt,
        istio_version=args.istio_version,
        clock_port=args.clock_port,
        confirm_within=args.confirm_within,
        withdrawal=withdrawal(args.address, args.group["spec"].get("probe")),
    )


def withdrawal(address: str, probe: Mapping[str, Any] | None) -> Withdrawal | None:
    """How the agent is made to take the VM for unhealthy; None where it probes nothing by IPv4, or by a command."""
    action = (probe or {}).get("httpGet") or (probe or {}).get("tcpSocket")
    if not probe or not action or action.get("host", address) != address or ":" in address:
        return None
    # Istio's defaults: pkg/istio-agent/health/health_check.go.
    seconds = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 1) + probe.get("timeoutSeconds", 1) + 1
    return Withdrawal(probe_at=f"{address}:{action['port']}", seconds=seconds)


def entry_args(name: str, args: VirtualMachineArgs) -> EntryArgs:
    """The VM's WorkloadEntry."""
    return EntryArgs(
        access=args.access,
        vm=name,
        address=args.address,
        group=args.group,
        labels=args.labels,
        # Where it takes longer, there has to be time for the way back before the VM takes it itself.
        healthy_within=min(60, args.confirm_within // 2),
    )


def credential_args(name: str, args: VirtualMachineArgs) -> CredentialArgs:
    """The VM's token. Another root certificate takes the old certificate from the VM, so it needs a new token."""
    root = pulumi.Output.from_input(args.root_certificate).apply(certificate_digest)
    return CredentialArgs(
        access=args.access,
        vm=name,
        namespace=args.namespace,
        service_account=str(args.group["spec"]["template"]["serviceAccount"]),
        identity=args.identity,
        renew=args.renew,
        minutes=args.token_minutes,
        wanted=args.wanted_token,
        triggers=[args.address, certain(root, "")],
    )


def refusal(name: str) -> str:
    """What runs on the VM where there is nothing to set it up with: it fails, and changes nothing."""
    return _fail(
        name,
        "mesh-not-ready",
        "istiod's root certificate or the east-west gateway's address is not known: something before it failed",
        "see the other errors of this run; then run it again",
    )


def halt(name: str, reason: str) -> str:
    """What runs on the VM where a VM before it has failed: it fails too, and changes nothing."""
    hint = "see the error of the VM that stopped it; the next up goes on from there"
    return _fail(name, "rollout-halted", reason, hint)


def _fail(name: str, code: str, fact: str, hint: str) -> str:
    line = json.dumps({"vm": name, "code": code, "fact": fact, "hint": hint})
    return f"echo {shlex.quote(line)} >&2; exit 1"


class VirtualMachine(pulumi.ComponentResource):
    """A VM whose sidecar is installed, enrolled and confirmed.

    Creates, in this order: `configure` (the host's package and files), a Secret that the token is bound to, `token`,
    `entry` (takes a VM that changes out of the mesh), `enrol` (takes the token and starts the sidecar), `healthy`
    (waits until a VM that has changed is in the mesh again), `confirm` (its evidence, or the way back) and `enrolled`
    (a mark that the token was used). Deletion goes the other way: the sidecar drains and stops, its entry goes, the
    token is revoked, the host is as it was; of a VM that may leave unreachable, `departure` does that. A changed
    address replaces all of them, a new token the Secret and mark.

    Outputs: `steps`, each step's standard output by resource name.
    """

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
        # Deleted before it is made anew: afterwards the sidecar may have registered again, under the same name.
        entry = _local(
            f"{name}-entry",
            **entry_commands(place),
            update=on_mesh(lambda desired: leave(place, desired.configuration)),
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
        if args.remove_unreachable:
            departure(
                f"{name}-departure",
                args.ssh,
                args.bastion,
                text=departure_command(
                    name,
                    args.ssh,
                    args.bastion,
                    on_vm=take_down(args.address),
                    then=str(entry_commands(place)["delete"]),
                ),
                triggers=[args.address],
                opts=child(credential.secret, *args.after),
            )
        if args.turn:
            args.turn.wants(host.apply(lambda desired: desired.configuration))
            args.turn.ends_with(confirmed.stdout)
        mark_used(holder, child(confirmed))
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
