"""What one VM is, and what follows from that for its host, its credential and its WorkloadEntry. Pure.

Beside the component and not in it: the two together would be one file with two jobs.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from cluster.client import Client
from components.credential import CredentialArgs
from components.entry import EntryArgs
from components.hooks import Hooks
from components.kubectl import ClusterAccess
from components.rollout import Turn
from components.workload import group_of_vm
from hosts.login import SshTarget
from hosts.observe import Found
from hosts.plan import CONFIRM_SECONDS, DesiredHost, Package, Route, configuration
from hosts.sidecar_files import SidecarFiles, sidecar_files
from registration.credentials import Wanted
from registration.waves import CONFIGURATION, attempts


@dataclass(frozen=True, kw_only=True)
class VirtualMachineArgs:
    """What the VM is and how it is reached."""

    access: ClusterAccess
    """For what has to be done when the program does not run."""
    client: Client
    """For what is done while it runs."""
    hooks: Hooks
    address: str
    """IP address, for ssh and in the mesh."""
    ssh: SshTarget
    """How it is logged in to."""
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
    wanted_token: Wanted = field(default_factory=Wanted)
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
    """What must be there first, and outlive the VM: the WorkloadGroup, which waits for the rest."""

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
    *,
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
    )


def entry_args(name: str, args: VirtualMachineArgs) -> EntryArgs:
    """The VM's WorkloadEntry."""
    return EntryArgs(
        vm=name,
        address=args.address,
        group=args.group,
        # Where it takes longer, there has to be time for the way back before the VM takes it itself.
        healthy_within=min(60, args.confirm_within // 2),
    )


def credential_args(name: str, args: VirtualMachineArgs) -> CredentialArgs:
    """The VM's token."""
    return CredentialArgs(
        vm=name,
        namespace=args.namespace,
        service_account=str(args.group["spec"]["template"]["serviceAccount"]),
        identity=args.identity,
        entry=entry_args(name, args).name,
        renew=args.renew,
        minutes=args.token_minutes,
        wanted=args.wanted_token,
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
