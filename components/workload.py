"""An application on VMs as the mesh knows it: a WorkloadGroup that VMs register under, and a service over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.common import ISTIO_API
from components.kubernetes_object import kubernetes_object
from components.policies import Access, authorization_policy
from components.registration_guard import RegistrationGuard, RegistrationGuardArgs, fits
from components.services import MeshServiceArgs, ServicePort, service_entry
from hosts.registered import RegisteredEntry
from hosts.sidecar_files import canonical_labels

CANONICAL_NAME = "service.istio.io/canonical-name"
NAME_LABELS = (CANONICAL_NAME, "app.kubernetes.io/name", "app")
"""Labels that name an application, the first that is there wins, as for Istio."""


TLS_MODE = "security.istio.io/tlsMode"


@dataclass(frozen=True, kw_only=True)
class StaticVm:
    """A VM without a sidecar, of which the mesh knows by a WorkloadEntry made here."""

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels over the workload's."""
    weight: int | None = None


@dataclass(frozen=True, kw_only=True)
class WorkloadArgs:
    """What the workload is."""

    namespace: str
    service_account: str
    """Without one, peers would talk plain text to the VMs."""
    trust_domain: str
    network: str
    """Network that the VMs are in."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    """Ports of the application by name."""
    probe: Mapping[str, Any] | None = None
    """`spec.probe` of the WorkloadGroup."""
    host: str | None = None
    """Full name of its service; None for no service."""
    service_entry: bool = False
    """Whether the service is a ServiceEntry: its host is no `<service>.<namespace>.svc.<domain>`."""
    service_ports: Mapping[str, int] = field(default_factory=dict)
    """Ports of the service by name, each leading to the workload's port of that name."""
    protocols: Mapping[str, str] = field(default_factory=dict)
    """Protocols of a ServiceEntry's ports, by name."""
    guarded: Mapping[str, RegisteredEntry] | None = None
    """What VMs may register as, by address; None for anything."""
    static_vms: Mapping[str, StaticVm] = field(default_factory=dict)
    """VMs without a sidecar, by name."""
    access: Sequence[Access] | None = None
    """Who may reach it; None: everybody."""
    after: Sequence[pulumi.Resource] = ()
    """What must be there first: the control plane and the namespace."""
    vms_after: Sequence[pulumi.Resource] = ()
    """What must be there before a VM registers besides: the way to istiod."""


def workload_group(name: str, args: WorkloadArgs) -> dict[str, Any]:
    """The WorkloadGroup's manifest."""
    metadata: dict[str, Any] = {"labels": dict(args.labels)} if args.labels else {}
    if args.annotations:
        metadata["annotations"] = dict(args.annotations)
    template: dict[str, Any] = {"serviceAccount": args.service_account, "network": args.network}
    if args.ports:
        template["ports"] = dict(args.ports)
    spec: dict[str, Any] = {"template": template}
    if metadata:
        spec["metadata"] = metadata
    if args.probe:
        spec["probe"] = dict(args.probe)
    return {
        "apiVersion": ISTIO_API,
        "kind": "WorkloadGroup",
        "metadata": {"name": name, "namespace": args.namespace},
        "spec": spec,
    }


def group_of_vm(group: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    """The group as one VM sees it: with the VM's own labels over the group's."""
    if not labels:
        return dict(group)
    metadata = group["spec"].get("metadata", {})
    merged = {**metadata, "labels": {**metadata.get("labels", {}), **labels}}
    return {**group, "spec": {**group["spec"], "metadata": merged}}


def static_entry(name: str, vm: StaticVm, group: Mapping[str, Any]) -> dict[str, Any]:
    """The WorkloadEntry of a VM without a sidecar, to which clients talk plain text.

    It claims no service account, an identity that the VM cannot prove, and says in so many words that there is no
    mutual TLS, since a label of the workload would have the last word.
    """
    template = group["spec"]["template"]
    seen = group_of_vm(group, vm.labels)
    spec = {
        "address": vm.address,
        "labels": {**canonical_labels(seen), TLS_MODE: "disabled"},
        "network": template["network"],
        "ports": dict(template["ports"]),
    }
    if vm.weight is not None:
        spec["weight"] = vm.weight
    return {
        "apiVersion": ISTIO_API,
        "kind": "WorkloadEntry",
        # Not the name that istiod would give it: such an entry may come from a VM that is to get a sidecar.
        "metadata": {"name": name, "namespace": group["metadata"]["namespace"]},
        "spec": spec,
    }


def service_selector(name: str, labels: Mapping[str, str]) -> dict[str, str]:
    """The label that names the application, which its WorkloadEntries bear."""
    for key in NAME_LABELS:
        if key in labels:
            return {key: labels[key]}
    return {CANONICAL_NAME: name}


def service_spec(name: str, args: WorkloadArgs) -> dict[str, Any]:
    """Spec of a Service that selects the WorkloadEntries, as it would select pods."""
    ports = [
        {"name": port, "port": number, "targetPort": args.ports[port], "protocol": "TCP"}
        for port, number in sorted(args.service_ports.items())
    ]
    return {"selector": service_selector(name, args.labels), "ports": ports}


def service_entry_args(name: str, args: WorkloadArgs, host: str) -> MeshServiceArgs:
    """What a ServiceEntry over the workload is; pods that bear the label answer at the same ports as the VMs."""
    return MeshServiceArgs(
        namespace=args.namespace,
        hosts=[host],
        ports={
            port: ServicePort(number=number, protocol=args.protocols.get(port, ""), target=args.ports[port])
            for port, number in args.service_ports.items()
        },
        selector=service_selector(name, args.labels),
    )


def spiffe_identity(args: WorkloadArgs) -> str:
    """The identity that the workload's certificates bear."""
    return f"spiffe://{args.trust_domain}/ns/{args.namespace}/sa/{args.service_account}"


def guard_args(name: str, args: WorkloadArgs, entries: Mapping[str, RegisteredEntry]) -> RegistrationGuardArgs:
    """What the guard of a workload knows.

    Raises:
        pulumi.RunError: It is more than the cluster can hold.
    """
    guard = RegistrationGuardArgs(namespace=args.namespace, group=name, entries=entries, after=args.after)
    if not fits(guard):
        raise pulumi.RunError(
            f"workloads.{name}.vms: the registration guard cannot hold what {len(entries)} VMs with labels of their "
            "own register as, split the workload, give all of them the same, or set istio.registrationGuard to false"
        )
    return guard


class Workload(pulumi.ComponentResource):
    """A WorkloadGroup and, where it has one, the service over its VMs.

    Creates a WorkloadGroup, a Service or ServiceEntry, an AuthorizationPolicy, a RegistrationGuard, and a WorkloadEntry
    for each VM without a sidecar. A changed namespace or name replaces them.

    Outputs: `identity` (SPIFFE), `host` (full name of the service, None without one), `group` (the manifest).
    """

    identity: str
    """SPIFFE identity of every VM of the workload."""
    host: str | None
    """Name under which the mesh reaches it."""
    group: dict[str, Any]
    """Manifest of the WorkloadGroup."""
    ready: pulumi.Resource
    """What must be there before a VM registers, and so takes traffic; the last of all that must."""
    guard: RegistrationGuardArgs | None
    """What its VMs may register as; None for anything."""
    static_steps: Mapping[str, Mapping[str, pulumi.Output[Any]]]
    """VM without a sidecar -> what shows that its WorkloadEntry is there, by resource name."""

    def __init__(self, name: str, args: WorkloadArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:Workload", name, None, opts)
        child = pulumi.ResourceOptions(parent=self, depends_on=list(args.after))
        self.group = workload_group(name, args)
        if args.host is not None and args.service_entry:
            manifest = service_entry(name, service_entry_args(name, args, args.host))
            kubernetes_object(f"{name}-service-entry", manifest, child)
        elif args.host is not None:
            _service(name, args, args.host, child)
        policies = [] if args.access is None else [_access(name, args, args.access, child)]
        self.static_steps = {
            vm: {f"{vm}-static": kubernetes_object(f"{vm}-static", static_entry(vm, static, self.group), child).id}
            for vm, static in args.static_vms.items()
        }
        self.guard = None if args.guarded is None else guard_args(name, args, args.guarded)
        guards = [] if self.guard is None else [_guard(name, self.guard, self)]
        self.identity = spiffe_identity(args)
        self.host = args.host
        # One resource that stands for all that VMs wait for: they would name each of them in the state.
        before = [*args.after, *args.vms_after, *policies, *(part for guard in guards for part in guard.ready)]
        self.ready = kubernetes_object(
            f"{name}-group", self.group, pulumi.ResourceOptions(parent=self, depends_on=before)
        )
        self.register_outputs({"identity": self.identity, "host": self.host})


def _service(name: str, args: WorkloadArgs, host: str, opts: pulumi.ResourceOptions) -> None:
    metadata = {
        "name": host.split(".")[0],
        "namespace": args.namespace,
        # The provider would wait for pods, and the endpoints here are VMs.
        "annotations": {"pulumi.com/skipAwait": "true"},
    }
    manifest = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service_spec(name, args)}
    kubernetes_object(f"{name}-service", manifest, opts)


def _access(name: str, args: WorkloadArgs, rules: Sequence[Access], opts: pulumi.ResourceOptions) -> pulumi.Resource:
    selector = service_selector(name, args.labels)
    manifest = authorization_policy(f"{name}-access", args.namespace, rules, selector)
    policy: pulumi.Resource = kubernetes_object(f"{name}-access", manifest, opts)
    return policy


def _guard(name: str, args: RegistrationGuardArgs, workload: Workload) -> RegistrationGuard:
    return RegistrationGuard(f"{name}-guard", args, pulumi.ResourceOptions(parent=workload))
