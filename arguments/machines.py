"""What workloads, their VMs and their credentials get of a stack's settings."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from arguments.control_plane import cluster_access
from arguments.namespaces import access_of
from cluster.client import ApiError, Client
from cluster.objects import Get
from components.ca import digest
from components.control_plane import Istiod, Mesh
from components.hooks import Hooks
from components.registration import RegistrationArgs
from components.rollout import RolloutArgs, Turn
from components.ssh import agent_problem
from components.virtual_machine import VirtualMachine
from components.vm_namespace import VmNamespace
from components.vm_plan import VirtualMachineArgs
from components.ways import Way
from components.workload import StaticVm, Workload, WorkloadArgs, group_of_vm, workload_group
from hosts.observe import Found
from hosts.plan import Package, Route
from hosts.registered import registered_entry, without_cloud
from hosts.sidecar_files import secret_ttl
from observation.targets import target_of
from registration import credential_reader, waves_reader
from registration.credentials import FormerVersion, Holder, Wanted, certificate_seconds
from registration.reader import live_sources, tcp_probe
from registration.stack import declared_vms
from settings import Settings, in_cluster_domain, protocol_of, revision_of, routes_of, service_host


def workloads_args(
    stack: Settings, control_plane: Mesh, namespaces: Mapping[str, VmNamespace], ways: Mapping[str, Way]
) -> dict[str, WorkloadArgs]:
    """Every workload."""
    return {
        name: guarded(
            stack,
            control_plane,
            name,
            workload_args(
                stack,
                name,
                [*control_plane.ready, *namespaces[workload.namespace].ready],
                ways[revision_of(stack.istio, workload)].ready,
            ),
        )
        for name, workload in stack.workloads.items()
    }


def workload_args(
    stack: Settings, name: str, after: Sequence[pulumi.Resource], vms_after: Sequence[pulumi.Resource] = ()
) -> WorkloadArgs:
    """One workload."""
    workload = stack.workloads[name]
    host, service_ports = service_host(name, workload), workload.service.ports if workload.service else {}
    return WorkloadArgs(
        namespace=workload.namespace,
        service_account=workload.service_account,
        trust_domain=stack.istio.trust_domain,
        network=workload.network or stack.cluster.network,
        labels=workload.labels,
        annotations=workload.annotations,
        ports=workload.ports,
        probe=workload.probe.model_dump(by_alias=True, exclude_none=True) if workload.probe else None,
        host=host,
        service_entry=host is not None and not in_cluster_domain(host),
        service_ports=service_ports,
        protocols={port: protocol_of(port) for port in service_ports},
        static_vms={
            vm_name: StaticVm(address=vm.address, labels=vm.labels, weight=vm.weight)
            for vm_name, vm in workload.vms.items()
            if vm.static
        },
        access=access_of(stack, workload.access, workload.ports),
        after=after,
        vms_after=vms_after,
    )


def guarded(stack: Settings, control_plane: Mesh, name: str, args: WorkloadArgs) -> WorkloadArgs:
    """The same workload, whose VMs register as the stack declares them, or not at all."""
    if not stack.istio.registration_guard:
        return args
    group, config = workload_group(name, args), vm_mesh_config(stack, control_plane, name)
    entries = {
        vm.address: registered_entry(group_of_vm(group, vm.labels), config)
        for vm in stack.workloads[name].meshed_vms.values()
    }
    return dataclasses.replace(args, guarded=entries)


def vm_mesh_config(stack: Settings, control_plane: Mesh, workload: str) -> Mapping[str, Any]:
    """The MeshConfig that the files of a workload's VMs are made from."""
    config = _istiod_of(stack, control_plane, workload).mesh_config
    return without_cloud(config) if stack.istio.registration_guard else config


def credentials(
    stack: Settings, get: Get, control_plane: Mesh, workloads: Mapping[str, Workload], found: Mapping[str, Found]
) -> dict[str, Wanted]:
    """Which token each VM is to have, by what the cluster shows at this moment.

    In previews too: a new token is seen in the plan before it is minted.
    """
    sources = credential_reader.Sources(get=get, probe=tcp_probe)
    holders = _holders(stack, control_plane, workloads, found)
    try:
        return credential_reader.read(holders, 60 * stack.hosts.token_minutes, sources)
    except (ApiError, FormerVersion) as error:
        raise pulumi.RunError(str(error)) from None


def _holders(
    stack: Settings, control_plane: Mesh, workloads: Mapping[str, Workload], found: Mapping[str, Found]
) -> list[Holder]:
    """Every VM that proves itself to istiod."""
    vms = declared_vms(stack)
    lives = {
        name: certificate_seconds(secret_ttl(workload.group, _istiod_of(stack, control_plane, name).mesh_config))
        for name, workload in workloads.items()
    }
    return [
        Holder(
            vm=vms[name],
            identity=_identity(stack, workloads[group], vm.address),
            renew=name in stack.renew,
            certificate_seconds=lives[group],
            certificate_until=certificate.not_after if certificate else "",
            bare=name in found and found[name].bare,
        )
        for group, workload in stack.workloads.items()
        for name, vm in workload.meshed_vms.items()
        for certificate in [found[name].certificate if name in found else None]
    ]


def _istiod_of(stack: Settings, control_plane: Mesh, workload: str) -> Istiod:
    """The istiod that a workload's VMs connect to."""
    return control_plane.istiods[revision_of(stack.istio, stack.workloads[workload])]


def _identity(stack: Settings, workload: Workload, address: str) -> str:
    """Whose token a VM needs: with another root of the stack's another one, as istiod forgets old certificates."""
    under = f" under root {digest(stack.authority.root)}" if stack.authority else ""
    return f"{workload.identity} at {address}{under}"


def rollout_args(stack: Settings, get: Get) -> RolloutArgs:
    """Every VM with a sidecar, in the stack file's order."""
    declared = declared_vms(stack)
    vms = [declared[name] for workload in stack.workloads.values() for name in workload.meshed_vms]
    try:
        standing = waves_reader.read(vms, get)
    except ApiError as error:
        raise pulumi.RunError(str(error)) from None
    return RolloutArgs(
        vms=vms,
        standing=standing,
        max_unavailable={
            name: (workload.rollout or stack.hosts.rollout).max_unavailable
            for name, workload in stack.workloads.items()
        },
    )


def agent_warning(stack: Settings) -> str:
    """What is wrong with the environment's ssh agent, if any VM is reached with it or in spite of it."""
    logins = [login for vm in stack.connections.values() for login in (vm, vm.bastion) if login]
    wanted = any(login.agent and not login.agent_socket for login in logins)
    return agent_problem(os.environ, wanted=wanted) if logins else ""


def told(found: Mapping[str, Found]) -> Mapping[str, Found]:
    """What is found on the VMs, once people were told."""
    for name, vm in found.items():
        if vm.unknown:
            pulumi.log.warn(f"vm {name} was not looked at: {vm.unknown}")
        elif vm.drift:
            pulumi.log.warn(f"vm {name} is {vm.summary}")
    return found


def machine_args(
    stack: Settings,
    name: str,
    client: Client,
    hooks: Hooks,
    control_plane: Mesh,
    ways: Mapping[str, Way],
    workloads: Mapping[str, Workload],
    wanted: Mapping[str, Wanted],
    turns: Mapping[str, Turn],
    found: Mapping[str, Found],
) -> VirtualMachineArgs:
    """One VM of a workload."""
    group = next(group for group, asked in stack.workloads.items() if name in asked.vms)
    vm, workload = stack.workloads[group].vms[name], workloads[group]
    revision = revision_of(stack.istio, stack.workloads[group])
    istiod, way = control_plane.istiods[revision], ways[revision]
    return VirtualMachineArgs(
        access=cluster_access(stack),
        client=client,
        hooks=hooks,
        address=vm.address,
        ssh=target_of(stack, name, vm.address),
        group=workload.group,
        labels=vm.labels,
        mesh_config=vm_mesh_config(stack, control_plane, group),
        cluster=stack.cluster.name,
        revision=revision,
        packages={
            kind: Package(url=package.url, file=package.file, sha256=package.sha256)
            for kind, package in stack.packages_of(name).items()
        },
        adopt=stack.hosts.existing_sidecar == "adopt",
        istio_version=istiod.version,
        clock_port=way.clock_port,
        istiod_host=istiod.host,
        istiod_address=way.address,
        istiod_port=way.port,
        routes=[Route(to=route.to, via=route.via) for route in routes_of(stack.hosts, vm)],
        root_certificate=control_plane.root_certificate,
        identity=_identity(stack, workload, vm.address),
        token_minutes=stack.hosts.token_minutes,
        wanted_token=wanted[name],
        renew=name in stack.renew,
        found=found.get(name, Found()),
        confirm_within=stack.hosts.confirm_within,
        remove_unreachable=stack.hosts.remove_unreachable if vm.remove_unreachable is None else vm.remove_unreachable,
        turn=turns[name],
        after=[workload.ready],
    )


def registration_args(
    stack: Settings,
    client: Client,
    machines: Mapping[str, VirtualMachine],
    workloads: Mapping[str, Workload],
    found: Mapping[str, Found],
) -> RegistrationArgs:
    """Every VM, and what its steps put out."""
    static = {name: steps for workload in workloads.values() for name, steps in workload.static_steps.items()}
    return RegistrationArgs(
        sources=live_sources(client),
        vms=list(declared_vms(stack).values()),
        steps={name: machine.steps for name, machine in machines.items()} | static,
        drift={name: vm.summary for name, vm in found.items()},
    )
