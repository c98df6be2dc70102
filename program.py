"""The bill of materials: what a stack's configuration becomes, and what the stack puts out."""

from collections.abc import Callable, Mapping

import pulumi
import pulumi_kubernetes as kubernetes

import arguments
import mesh
import outputs
from cluster.client import Client
from cluster.objects import at_one_moment
from components.confirmation import Confirmation
from components.control_plane import ControlPlane, Mesh
from components.existing import ExistingControlPlane
from components.gateways import EastWestGateway
from components.hooks import Hooks
from components.ingress import IngressGateway
from components.kubernetes_object import name_chart_parts_only
from components.policies import Policies
from components.registration import Registration
from components.registration_guard import ConfirmedEntries
from components.revisions import RevisionTags
from components.rollout import turns
from components.services import MeshService
from components.traffic import TrafficPolicy
from components.virtual_machine import VirtualMachine
from components.vm_namespace import VmNamespace
from components.workload import Workload
from hosts.observe import Found
from settings import Settings


def declare(stack: Settings, look: Callable[[], Mapping[str, Found]]) -> None:
    """Declare all resources and outputs.

    Args:
        stack: The stack's configuration.
        look: What is found on the VMs; it may be waited for.
    """
    name_chart_parts_only()
    access = arguments.cluster_access(stack)
    client = Client.connect(access.kubeconfig, access.context)
    stack, istio = mesh.settled(stack, client)
    # A path, never the file's contents: credentials stay out of the stack's state. The cluster's name says whether it
    # is another cluster, whose objects are to be made anew; a new way to the same one changes nothing.
    provider = kubernetes.Provider(
        "cluster",
        kubeconfig=access.kubeconfig_path,
        context=access.context,
        cluster_identifier=stack.cluster.name,
        enable_server_side_apply=True,
        enable_config_map_mutable=True,  # a changed mesh config must not delete istiod's while its pods run
    )
    on_cluster = pulumi.ResourceOptions(providers=[provider])

    if problem := arguments.agent_warning(stack):
        pulumi.log.warn(problem)
    moves = arguments.migration_steps(stack, client)
    found = arguments.told(look())
    before = at_one_moment(client.get)
    places = turns(arguments.rollout_args(stack, before))
    control_plane: Mesh = (
        ExistingControlPlane("istio", arguments.existing_args(stack, client.get, istio), on_cluster)
        if istio
        else ControlPlane("istio", mesh.control_plane_args(stack, client), on_cluster)
    )
    asked = arguments.gateway_args(stack, client.get, control_plane)
    gateway = EastWestGateway("east-west", asked, on_cluster) if asked else None
    if tags := arguments.tags_args(stack, client.get, control_plane):
        RevisionTags("revision-tags", tags, on_cluster)
    ways = arguments.ways_to_istiod(stack, client.get, control_plane, gateway)
    namespaces = {name: VmNamespace(name, args, on_cluster) for name, args in arguments.namespace_args(stack).items()}
    for name, rules in arguments.policies_args(stack, control_plane, namespaces).items():
        Policies(f"{name}-policies", rules, on_cluster)
    asked_workloads = arguments.workloads_args(stack, control_plane, namespaces, ways)
    workloads = {name: Workload(name, args, on_cluster) for name, args in asked_workloads.items()}
    for host in stack.traffic:
        TrafficPolicy(host, arguments.policy_args(stack, host, control_plane, namespaces, moves), on_cluster)
    asked_ingress = arguments.ingress_args(stack, client.get, control_plane, namespaces, moves)
    ingress = IngressGateway("ingress", asked_ingress, on_cluster) if asked_ingress else None
    services = {
        name: MeshService(name, arguments.service_args(stack, name, control_plane, namespaces), on_cluster)
        for name in stack.services
    }
    tokens = arguments.credentials(stack, before, control_plane, workloads, found)
    hooks = Hooks()
    machines = {
        name: VirtualMachine(
            name,
            arguments.machine_args(stack, name, client, hooks, control_plane, ways, workloads, tokens, places, found),
            on_cluster,
        )
        for workload in stack.workloads.values()
        for name in workload.meshed_vms
    }
    for name, workload in workloads.items():
        steps = [machines[vm].confirmed for vm in stack.workloads[name].meshed_vms]
        if workload.guard and steps:
            ConfirmedEntries(f"{name}-guard-confirmed", workload.guard, steps, on_cluster)
    registration = Registration("registration", arguments.registration_args(stack, client, machines, workloads, found))
    confirmation = Confirmation(
        "confirmation", arguments.confirmation_args(stack, client, gateway, registration.report)
    )

    for name, value in outputs.of(
        stack, control_plane, ways, gateway, ingress, workloads, services, registration, confirmation
    ).items():
        pulumi.export(name, value)
