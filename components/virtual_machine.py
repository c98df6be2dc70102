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
import pulumi_kubernetes as kubernetes
from pulumi.output import UNKNOWN

from components.common import certain
from components.kubectl import ClusterAccess, create_token, delete_entry
from components.workload import group_of_vm, registration_spec
from hosts.plan import DesiredHost, Package, configure, confirm, drain, enrol, unconfigure
from hosts.sidecar_files import sidecar_files
from registration.ladder import entry_name

TOKEN_MINUTES = 60
"""Life of the token. It is used once, seconds after it is made; the rest is for a run that is taken up again."""
DIAL_ERRORS = 1
DIAL_SECONDS = 6
"""Two dials of six seconds: an unreachable VM fails in well under 20 s."""


@dataclass(frozen=True, kw_only=True)
class VirtualMachineArgs:
    """What the VM is and how it is reached."""

    access: ClusterAccess
    address: str
    """IP address, for ssh and in the mesh."""
    user: str
    port: int
    host_key: str
    """Public ssh host key; a connection to anything else fails."""
    private_key: pulumi.Input[str]
    """A secret Output."""
    group: Mapping[str, Any]
    """Manifest of the WorkloadGroup."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels over the group's."""
    mesh_config: Mapping[str, Any]
    cluster: str
    """Name of the cluster in the mesh."""
    revision: str = ""
    packages: Mapping[str, Package]
    """The sidecar's packages by architecture."""
    istiod_host: str
    """The name that istiod's certificate bears."""
    istiod_address: pulumi.Input[str]
    """IP at which the VM reaches istiod."""
    istiod_port: int
    root_certificate: pulumi.Input[str]
    """PEM."""
    after: Sequence[pulumi.Resource] = ()
    """What must be there first, and outlive the VM: gateway, namespace, WorkloadGroup."""

    @property
    def namespace(self) -> str:
        """Namespace of the VM's workload."""
        return str(self.group["metadata"]["namespace"])


def desired_host(name: str, args: VirtualMachineArgs, root_certificate: str, istiod_address: str) -> DesiredHost:
    """What the host is to become."""
    files = sidecar_files(
        group=group_of_vm(args.group, args.labels),
        mesh_config=args.mesh_config,
        cluster_id=args.cluster,
        root_certificate=root_certificate,
        istiod_address=istiod_address,
        revision=args.revision,
        service_ip=args.address,
    )
    return DesiredHost(
        vm=name,
        files=files,
        packages=args.packages,
        istiod_host=args.istiod_host,
        istiod_address=istiod_address,
        istiod_port=args.istiod_port,
        address=args.address,
    )


def entry_commands(args: VirtualMachineArgs) -> dict[str, Any]:
    """Inputs of the command that stands for the WorkloadEntry, which istiod makes and this removes.

    Its standard input is what an entry takes from its group only once; a change of it runs `update`.
    """
    template = args.group["spec"]["template"]
    name = entry_name(args.group["metadata"]["name"], args.address, template["network"])
    remove = delete_entry(args.access, name=name, namespace=args.namespace)
    spec = registration_spec(group_of_vm(args.group, args.labels))
    return {
        "create": ":",
        "update": remove,
        "delete": remove,
        "stdin": json.dumps(spec, indent=1, sort_keys=True),
        "triggers": [f"{args.namespace}/{name}"],
    }


def token_command(args: VirtualMachineArgs, secret: Any) -> Any:
    """The command that mints the token, bound to this very Secret; unknown until the cluster has given it a uid."""
    if not secret.uid:
        return UNKNOWN
    return create_token(
        args.access,
        service_account=args.group["spec"]["template"]["serviceAccount"],
        namespace=args.namespace,
        minutes=TOKEN_MINUTES,
        secret=secret.name,
        secret_uid=secret.uid,
    )


def refusal(name: str) -> str:
    """What runs on the VM where there is nothing to set it up with: it fails, and changes nothing."""
    line = {
        "vm": name,
        "code": "mesh-not-ready",
        "fact": "istiod's root certificate or the east-west gateway's address is not known: something before it failed",
        "hint": "see the other errors of this run; then run it again",
    }
    return f"echo {shlex.quote(json.dumps(line))} >&2; exit 1"


class VirtualMachine(pulumi.ComponentResource):
    """A VM whose sidecar is installed, enrolled and confirmed.

    Creates, in this order: `configure` (the host's package and files), a Secret that the token is bound to, `token`,
    `entry` (deletes the WorkloadEntry whenever what it was registered with has changed), `enrol` (takes the token and
    starts the sidecar) and `confirm` (its evidence). Deletion goes the other way: the sidecar drains and stops, its
    entry goes, the token is revoked, the host is as it was. A changed address replaces all but the Secret.

    Outputs: `steps`, each step's standard output by resource name.
    """

    steps: Mapping[str, pulumi.Output[Any]]
    """What shows how far the VM has come, in the order in which it happens; never secret."""

    def __init__(self, name: str, args: VirtualMachineArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:VirtualMachine", name, None, opts)
        host = pulumi.Output.all(args.root_certificate, args.istiod_address).apply(
            lambda known: desired_host(name, args, *known)
        )

        def on_host(text: Callable[[DesiredHost], str]) -> pulumi.Output[str]:
            return certain(host.apply(text), refusal(name))

        def child(*depends_on: pulumi.Resource, **options: Any) -> pulumi.ResourceOptions:
            return pulumi.ResourceOptions(parent=self, depends_on=list(depends_on), **options)

        configured = _on_host(
            f"{name}-configure",
            args,
            create=on_host(lambda desired: configure(desired).command),
            stdin=on_host(lambda desired: configure(desired).stdin),
            delete=on_host(unconfigure),
            opts=child(*args.after),
        )
        secret = kubernetes.core.v1.Secret(
            f"{name}-secret",
            metadata={"name": f"istio-vm-{name}", "namespace": args.namespace},
            type="Opaque",
            opts=child(*args.after),
        )
        token = _local(
            f"{name}-token",
            create=secret.metadata.apply(lambda metadata: token_command(args, metadata)),
            triggers=[args.address],
            opts=child(configured, additional_secret_outputs=["stdout", "stderr"]),
        )
        # Deleted before it is made anew: afterwards the sidecar may have registered again, under the same name.
        entry = _local(f"{name}-entry", **entry_commands(args), opts=child(configured, delete_before_replace=True))
        enrolled = _on_host(
            f"{name}-enrol",
            args,
            create=on_host(lambda desired: enrol(desired).command),
            # Made secret only where it is known: an unknown secret, after a failed token, would end the whole program
            # ("malformed RPC secret"), and with it every output.
            stdin=token.stdout.apply(lambda text: pulumi.Output.secret(text)),
            delete=on_host(drain),
            opts=child(entry),
        )
        confirmed = _on_host(
            f"{name}-confirm",
            args,
            create=on_host(lambda desired: confirm(desired).command),
            opts=child(enrolled),
        )
        self.steps = {
            f"{name}-configure": configured.stdout,
            f"{name}-secret": secret.id,
            f"{name}-token": token.id,
            f"{name}-entry": entry.stdout,
            f"{name}-enrol": enrolled.stdout,
            f"{name}-confirm": confirmed.stdout,
        }
        self.register_outputs({})


def _on_host(name: str, args: VirtualMachineArgs, **inputs: Any) -> command.remote.Command:
    """A command on the VM. No logging: an endless line of output would block it, and errors bring the output anyway."""
    return command.remote.Command(
        name,
        connection=command.remote.ConnectionArgs(
            host=args.address,
            port=args.port,
            user=args.user,
            host_key=args.host_key,
            private_key=pulumi.Output.secret(args.private_key),
            dial_error_limit=DIAL_ERRORS,
            per_dial_timeout=DIAL_SECONDS,
        ),
        triggers=[args.address],
        logging=command.remote.Logging.NONE,
        add_previous_output_in_env=False,
        **inputs,
    )


def _local(name: str, **inputs: Any) -> command.local.Command:
    """A command where Pulumi runs. The last output stays out of its environment: it may be a token."""
    return command.local.Command(name, logging=command.local.Logging.NONE, add_previous_output_in_env=False, **inputs)
