"""What the components of the mesh around the VMs get of a stack's settings: namespaces, policies, services."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.control_plane import Mesh
from components.policies import Access, PoliciesArgs
from components.services import MeshServiceArgs, ServicePort
from components.vm_namespace import VmNamespace, VmNamespaceArgs
from settings import Settings, protocol_of
from settings.access_models import AccessRule
from settings.model import Model
from settings.namespace_models import Namespace

ROOT_NAMESPACE = "istio-system"
"""Where policies hold for the whole mesh."""


def namespace_args(stack: Settings) -> dict[str, VmNamespaceArgs]:
    """Every namespace that the stack makes: those of workloads, and further ones."""
    accounts: dict[str, set[str]] = {name: set() for name in stack.namespaces}
    for workload in stack.workloads.values():
        accounts.setdefault(workload.namespace, set()).add(workload.service_account)
    asked = {name: stack.namespaces.get(name, Namespace()) for name in sorted(accounts)}
    return {
        name: VmNamespaceArgs(
            service_accounts=sorted(accounts[name]),
            injection=namespace.injection or ("disabled" if accounts[name] else "enabled"),
            revision=stack.istio.revision,
            labels=namespace.labels,
        )
        for name, namespace in asked.items()
    }


def policies_args(
    stack: Settings, control_plane: Mesh, namespaces: Mapping[str, VmNamespace]
) -> dict[str, PoliciesArgs]:
    """What holds in the mesh and in namespaces, where the stack says anything."""
    said = {
        name: PoliciesArgs(
            namespace=name,
            mutual_tls=namespace.mutual_tls,
            access=access_of(stack, namespace.access, {}),
            after=[*control_plane.ready, *namespaces[name].ready],
        )
        for name, namespace in stack.namespaces.items()
        if namespace.mutual_tls is not None or namespace.access is not None
    }
    if stack.istio.mutual_tls is not None:
        said[ROOT_NAMESPACE] = PoliciesArgs(
            namespace=ROOT_NAMESPACE, mutual_tls=stack.istio.mutual_tls, after=control_plane.ready
        )
    return said


def access_of(stack: Settings, rules: Sequence[AccessRule] | None, ports: Mapping[str, int]) -> list[Access] | None:
    """Rules of access, with identities for workloads and numbers for the names of ports."""
    if rules is None:
        return None
    return [
        Access(
            principals=[principal(stack, caller) for caller in rule.from_ or ()],
            methods=rule.methods or (),
            paths=rule.paths or (),
            ports=[ports[port] if isinstance(port, str) else port for port in rule.ports or ()],
        )
        for rule in rules
    ]


def principal(stack: Settings, caller: str) -> str:
    """The identity of a caller as policies name it: without `spiffe://`."""
    if caller == "*" or "://" in caller:
        return caller.removeprefix("spiffe://")
    if "/" not in caller:
        workload = stack.workloads[caller]
        caller = f"{workload.namespace}/{workload.service_account}"
    namespace, account = caller.split("/")
    return f"{stack.istio.trust_domain}/ns/{namespace}/sa/{account}"


def service_args(
    stack: Settings, name: str, control_plane: Mesh, namespaces: Mapping[str, VmNamespace]
) -> MeshServiceArgs:
    """One host that is no Kubernetes Service."""
    service = stack.services[name]
    made = [namespaces[service.namespace]] if service.namespace in namespaces else []
    return MeshServiceArgs(
        namespace=service.namespace,
        hosts=service.hosts,
        ports={
            port: ServicePort(number=number, protocol=protocol_of(port), target=service.target_ports.get(port))
            for port, number in service.ports.items()
        },
        location=service.location,
        resolution=service.resolution,
        selector=service.selector,
        endpoints=None if service.endpoints is None else [_manifest(endpoint) for endpoint in service.endpoints],
        addresses=service.addresses,
        export_to=service.export_to,
        subject_alt_names=service.subject_alt_names,
        after=[*control_plane.ready, *(part for namespace in made for part in namespace.ready)],
    )


def _manifest(model: Model) -> dict[str, Any]:
    """What a model says, in the words of a manifest."""
    return model.model_dump(by_alias=True, exclude_none=True, exclude_defaults=True)
