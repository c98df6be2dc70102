"""What each component gets of a stack's settings: the only place that knows both."""

from collections.abc import Sequence

import pulumi

from components.control_plane import ControlPlane, ControlPlaneArgs
from components.gateways import ISTIOD_PORT, EastWestGateway, EastWestGatewayArgs, istiod_ip
from components.kubectl import ClusterAccess
from components.virtual_machine import VirtualMachineArgs
from components.vm_namespace import VmNamespace, VmNamespaceArgs
from components.workload import Workload, WorkloadArgs
from hosts.plan import Package
from settings import Settings, service_host


def cluster_access(stack: Settings) -> ClusterAccess:
    """How kubectl reaches the cluster."""
    return ClusterAccess(kubeconfig=stack.cluster.kubeconfig, context=stack.cluster.context)


def control_plane_args(stack: Settings) -> ControlPlaneArgs:
    """The control plane that the stack asks for."""
    istio = stack.istio
    return ControlPlaneArgs(
        access=cluster_access(stack),
        charts=istio.charts,
        version=istio.version,
        hub=istio.hub,
        tag=istio.tag or istio.version,
        mesh_id=istio.mesh_id,
        trust_domain=istio.trust_domain,
        cluster=stack.cluster.name,
        network=stack.cluster.network,
        revision=istio.revision,
        values=istio.values,
    )


def gateway_args(stack: Settings, control_plane: ControlPlane) -> EastWestGatewayArgs:
    """The east-west gateway that the stack asks for."""
    return EastWestGatewayArgs(
        access=cluster_access(stack),
        charts=stack.istio.charts,
        version=stack.istio.version,
        network=stack.cluster.network,
        revision=stack.istio.revision,
        expose_services=stack.east_west_gateway.expose_services,
        values=stack.east_west_gateway.values,
        after=control_plane.ready,
    )


def namespace_args(stack: Settings) -> dict[str, VmNamespaceArgs]:
    """Every namespace that workloads are in."""
    accounts: dict[str, set[str]] = {}
    for workload in stack.workloads.values():
        accounts.setdefault(workload.namespace, set()).add(workload.service_account)
    return {name: VmNamespaceArgs(service_accounts=sorted(accounts[name])) for name in sorted(accounts)}


def workload_args(stack: Settings, name: str, after: Sequence[pulumi.Resource]) -> WorkloadArgs:
    """One workload."""
    workload = stack.workloads[name]
    return WorkloadArgs(
        namespace=workload.namespace,
        service_account=workload.service_account,
        trust_domain=stack.istio.trust_domain,
        network=workload.network or stack.cluster.network,
        labels=workload.labels,
        annotations=workload.annotations,
        ports=workload.ports,
        probe=workload.probe.model_dump(by_alias=True, exclude_none=True) if workload.probe else None,
        host=service_host(name, workload),
        service_ports=workload.service.ports if workload.service else {},
        after=after,
    )


def machine_args(
    stack: Settings,
    name: str,
    control_plane: ControlPlane,
    gateway: EastWestGateway,
    namespace: VmNamespace,
    workload: Workload,
) -> VirtualMachineArgs:
    """One VM of a workload."""
    connection = stack.connections[name]
    vm = next(w.vms[name] for w in stack.workloads.values() if name in w.vms)
    return VirtualMachineArgs(
        access=cluster_access(stack),
        address=vm.address,
        user=connection.user,
        port=connection.port,
        host_key=connection.host_key,
        private_key=pulumi.Output.secret(connection.private_key.get_secret_value()),
        group=workload.group,
        labels=vm.labels,
        mesh_config=control_plane.mesh_config,
        cluster=stack.cluster.name,
        revision=stack.istio.revision,
        packages={arch: Package(url=package.url, sha256=package.sha256) for arch, package in stack.packages.items()},
        istiod_host=control_plane.istiod_host,
        istiod_address=gateway.address.apply(istiod_ip),
        istiod_port=ISTIOD_PORT,
        root_certificate=control_plane.root_certificate,
        after=[*gateway.ready, *namespace.ready, *workload.ready],
    )
