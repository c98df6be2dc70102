"""Every host that the stack itself makes, and what it knows of the VMs behind it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from settings.draft import Draft
from settings.problems import join
from settings.service_models import MeshService
from settings.workload_models import Workload

CLUSTER_DOMAIN = "svc.cluster.local"
EVERYBODY = "*"

_NAMES = ("service.istio.io/canonical-name", "app.kubernetes.io/name", "app")
_REVISIONS = ("service.istio.io/canonical-revision", "app.kubernetes.io/version", "version")


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host of the stack."""

    name: str
    """Its full name."""
    path: str
    """Where the stack file says it."""
    owner: str
    """What makes it, as `workloads.billing.service` or `services.reviews`."""
    namespace: str
    entry: bool
    """Whether it is a ServiceEntry; else a Kubernetes Service."""
    ports: Mapping[str, int]
    seen_by: frozenset[str]
    """Namespaces that see it; `EVERYBODY` for all."""
    endpoints: tuple[Mapping[str, str], ...]
    """Labels of every endpoint that the stack knows of."""
    pods: bool
    """Whether the stack says that there are more endpoints than it knows of; a workload's service finds pods, too, but
    whether there are any is for those to say who speak of them."""


def in_cluster_domain(host: str) -> bool:
    """Return whether the cluster's DNS answers for a host."""
    return f".{host}".endswith((".cluster.local", ".svc"))


def service_host(name: str, workload: Workload) -> str | None:
    """Return the full name under which the mesh reaches a workload, if it has one."""
    if workload.service is None:
        return None
    return workload.service.host or f"{name}.{workload.namespace}.{CLUSTER_DOMAIN}"


def hosts_of(draft: Draft) -> Iterator[Host]:
    """Yield every host of the stack."""
    for name, workload in draft.workloads.items():
        host = service_host(name, workload)
        if host is not None and workload.service is not None:
            yield Host(
                name=host,
                path=join("workloads", name, "service", "host"),
                owner=join("workloads", name, "service"),
                namespace=workload.namespace,
                entry=not in_cluster_domain(host),
                ports=workload.service.ports,
                seen_by=frozenset({EVERYBODY}),
                endpoints=tuple(_vms(draft, workload.namespace, service_labels(name, workload))),
                pods=False,
            )
    for name, service in draft.services.items():
        for index, host in enumerate(service.hosts):
            yield Host(
                name=host,
                path=join("services", name, "hosts", index),
                owner=join("services", name),
                namespace=service.namespace,
                entry=True,
                ports=service.ports,
                seen_by=seen_by(service),
                endpoints=tuple(_endpoints(draft, service)),
                pods=service.pods or service.resolution in {"DNS", "DNS_ROUND_ROBIN", "NONE"},
            )


def _endpoints(draft: Draft, service: MeshService) -> Iterator[Mapping[str, str]]:
    """Yield the labels of every endpoint of a service that the stack knows of."""
    for endpoint in service.endpoints or ():
        yield endpoint.labels
    if service.selector is not None:
        yield from _vms(draft, service.namespace, service.selector)


def _vms(draft: Draft, namespace: str, selector: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Yield the labels of every VM that a selector finds."""
    for name, labels in selected(draft, namespace, selector):
        if draft.workloads[name].vms:
            yield labels


def seen_by(service: MeshService) -> frozenset[str]:
    """Return the namespaces that see a service."""
    if not service.export_to:
        return frozenset({EVERYBODY})
    return frozenset(service.namespace if namespace == "." else namespace for namespace in service.export_to) - {"~"}


def service_labels(name: str, workload: Workload) -> dict[str, str]:
    """Return the label by which a workload's service finds its VMs: the one that names the application."""
    key = next((key for key in _NAMES if key in workload.labels), _NAMES[0])
    return {key: workload.labels.get(key, name)}


def selected(draft: Draft, namespace: str, selector: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield the workload and the labels of every VM that a selector finds.

    A workload without VMs counts as one: it is declared, and its VMs may come and go.
    """
    for name, workload in draft.workloads.items():
        if workload.namespace == namespace:
            for labels in _labels(name, workload):
                if selector.items() <= labels.items():
                    yield name, labels


def _labels(name: str, workload: Workload) -> Sequence[Mapping[str, str]]:
    """Return the labels that each of a workload's VMs bears in the mesh."""
    own = [vm.labels for vm in workload.vms.values()] or [{}]
    return [_canonical(name, {**workload.labels, **labels}) for labels in own]


def _canonical(name: str, labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels with those that name the application and its revision for Istio."""
    named = next((labels[key] for key in _NAMES if key in labels), name)
    revised = next((labels[key] for key in _REVISIONS if key in labels), "latest")
    return {**labels, _NAMES[0]: named, _REVISIONS[0]: revised}
