"""What must hold between the hosts of the whole stack."""

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from settings.draft import Draft
from settings.problems import Problem, join
from settings.protocols import HTTP, protocol_of
from settings.service_hosts import CLUSTER_DOMAIN, EVERYBODY, Host, hosts_of, in_cluster_domain, selected
from settings.service_models import MeshService

_TOLD_APART = HTTP | {"HTTPS", "TLS"}
"""Protocols in which a request says the host that it is for."""

_ALLOCATE = "PILOT_ENABLE_IP_AUTOALLOCATE"


def check_services(draft: Draft) -> Iterator[Problem]:
    """Yield what is wrong with hosts and what they select."""
    for name, service in draft.services.items():
        yield from _hosts(name, service)
        yield from _ports(name, service)
        yield from _endpoints(name, service)
        yield from _exported(name, service)
        yield from _selector(draft, name, service)
    yield from _same_host(list(hosts_of(draft)))
    yield from _same_entry(draft)
    yield from _addresses(draft)
    yield from _everywhere(draft)


def ports_twice(ports: Mapping[str, int], *path: str) -> Iterator[Problem]:
    """Yield port numbers that stand in one map twice."""
    first: dict[int, str] = {}
    for name, port in ports.items():
        if first.setdefault(port, name) != name:
            other = join(*path, first[port])
            yield Problem(path=join(*path, name), what=f"the port of {other} too", got=port, right="each port once")


def _hosts(name: str, service: MeshService) -> Iterator[Problem]:
    """Yield hosts that a ServiceEntry cannot have."""
    for index, host in enumerate(service.hosts):
        if in_cluster_domain(host):
            yield Problem(
                path=join("services", name, "hosts", index),
                what="a name of the cluster's own domain, in which hosts are Kubernetes Services",
                got=host,
                right=f"a host outside of {CLUSTER_DOMAIN}, as in {name}.mesh.internal",
            )
    apart = [port for port in service.ports if protocol_of(port) not in _TOLD_APART]
    if len(service.hosts) > 1 and service.resolution != "NONE" and apart:
        yield Problem(
            path=join("services", name, "hosts"),
            what=f"several hosts share the port {apart[0]}, whose protocol does not say which one is meant",
            got=service.hosts,
            right="one host, or http, grpc, https and tls ports only",
        )


def _ports(name: str, service: MeshService) -> Iterator[Problem]:
    """Yield ports that contradict one another."""
    yield from ports_twice(service.ports, "services", name, "ports")
    named = [(join("services", name, "targetPorts", port), port) for port in service.target_ports]
    for index, endpoint in enumerate(service.endpoints or ()):
        named += [(join("services", name, "endpoints", index, "ports", port), port) for port in endpoint.ports or ()]
    for path, port in named:
        if port not in service.ports:
            right = f"one of {', '.join(service.ports)}"
            yield Problem(path=path, what="names none of the service's ports", got=port, right=right)


def _endpoints(name: str, service: MeshService) -> Iterator[Problem]:
    """Yield endpoints that the resolution does not take, and those that stand there twice."""
    seen: list[tuple[str, object]] = []
    for index, endpoint in enumerate(service.endpoints or ()):
        path = join("services", name, "endpoints", index)
        if service.resolution == "STATIC" and not _is_address(endpoint.address):
            what, right = "a name, which resolution STATIC does not look up", "an IPv4 address, or resolution: DNS"
            yield Problem(path=f"{path}.address", what=what, got=endpoint.address, right=right)
        if (endpoint.address, endpoint.ports) in seen:
            other = join("services", name, "endpoints", seen.index((endpoint.address, endpoint.ports)))
            yield Problem(path=path, what=f"the same as {other}", got=endpoint.address, right="each endpoint once")
        seen.append((endpoint.address, endpoint.ports))


def _is_address(text: str) -> bool:
    return text.replace(".", "").isdigit()


def _exported(name: str, service: MeshService) -> Iterator[Problem]:
    """Yield lists of namespaces that istiod refuses."""
    seen: dict[str, int] = {}
    for index, given in enumerate(service.export_to):
        path = join("services", name, "exportTo", index)
        namespace = service.namespace if given == "." else given
        if seen.setdefault(namespace, index) != index:
            other = join("services", name, "exportTo", seen[namespace])
            yield Problem(path=path, what=f"the namespace of {other} too", got=given, right="each namespace once")
        elif given in {"*", "~"} and len(service.export_to) > 1:
            meaning = "all namespaces" if given == "*" else "none"
            yield Problem(path=path, what=f"stands for {meaning}, beside others", got=given, right="one of the two")


def _selector(draft: Draft, name: str, service: MeshService) -> Iterator[Problem]:
    """Yield selectors that find nothing, or VMs that do not listen where the service leads."""
    if service.selector is None:
        return
    path = join("services", name, "selector")
    if service.location == "MESH_EXTERNAL":
        what = "finds VMs and pods of the mesh for a service outside of it"
        yield Problem(path=path, what=what, right="location: MESH_INTERNAL, or endpoints")
    found = dict.fromkeys(workload for workload, _ in selected(draft, service.namespace, service.selector))
    if not found and not service.pods:
        yield Problem(
            path=path,
            what=_nothing(draft, service),
            got=", ".join(f"{key}={value}" for key, value in service.selector.items()),
            right="labels that a workload's VMs bear, or pods: true where pods of others answer",
        )
    for workload in found:
        ports = draft.workloads[workload].ports
        for port, number in service.ports.items():
            leads_to = ports.get(port) or service.target_ports.get(port) or number
            if ports and leads_to not in ports.values():
                yield Problem(
                    path=join("services", name, "ports", port),
                    what=f"leads to port {leads_to} of the VMs of workloads.{workload}, which is none of its ports",
                    got=port,
                    right=f"the name of one of its ports ({', '.join(ports)}), or its number in targetPorts",
                )


def _nothing(draft: Draft, service: MeshService) -> str:
    """Return what to say of a selector that finds nothing."""
    for namespace in dict.fromkeys(workload.namespace for workload in draft.workloads.values()):
        for workload, _ in selected(draft, namespace, service.selector or {}):
            return f"finds nothing in {service.namespace}, and workloads.{workload} is in {namespace}"
    return f"finds no workload of this stack in {service.namespace}"


def _same_host(hosts: Sequence[Host]) -> Iterator[Problem]:
    """Yield hosts that some namespace would see twice."""
    for index, host in enumerate(hosts):
        for other in hosts[:index]:
            if host.name == other.name and _seen_by_both(host, other):
                what = f"the host of {other.owner} too"
                yield Problem(path=host.path, what=what, got=host.name, right="a host of its own")
                break


def _seen_by_both(one: Host, other: Host) -> bool:
    """Return whether any namespace sees both hosts; the same object says a host once anyway."""
    if one.owner == other.owner:
        return True
    return bool(
        one.seen_by & other.seen_by
        or (EVERYBODY in one.seen_by and other.seen_by)
        or (EVERYBODY in other.seen_by and one.seen_by)
    )


def _same_entry(draft: Draft) -> Iterator[Problem]:
    """Yield ServiceEntries with the name of a workload's in the same namespace."""
    made = {(host.namespace, host.owner) for host in hosts_of(draft) if host.entry}
    for name, service in draft.services.items():
        other = join("workloads", name, "service")
        if (service.namespace, other) in made:
            what = f"a ServiceEntry of that name is in {service.namespace} already, that of {other}"
            yield Problem(path=join("services", name), what=what, right="another name")


def _addresses(draft: Draft) -> Iterator[Problem]:
    """Yield virtual addresses that would take the traffic of other ones or of VMs."""
    seen: list[tuple[str, ipaddress.IPv4Network]] = []
    for name, service in draft.services.items():
        for index, address in enumerate(service.addresses):
            path = join("services", name, "addresses", index)
            network = ipaddress.IPv4Network(address)
            if "/" in address and service.resolution in {"DNS", "DNS_ROUND_ROBIN"}:
                what, right = f"a range, which {service.resolution} does not take", "an address, or resolution: STATIC"
                yield Problem(path=path, what=what, got=address, right=right)
            other = next((other for other, taken in seen if taken.overlaps(network)), None)
            if other is not None:
                yield Problem(path=path, what=f"overlaps {other}", got=address, right="addresses of its own")
            seen.append((path, network))
            vm = next((vm for vm in draft.vms if ipaddress.IPv4Address(vm.machine.address) in network), None)
            if vm is not None and not (service.resolution == "NONE" and network.prefixlen < 32):
                what = f"takes the traffic to {vm.path('address')}"
                yield Problem(path=path, what=what, got=address, right="a virtual address, that no machine has")


def _everywhere(draft: Draft) -> Iterator[Problem]:
    """Yield ports that sidecars could only listen for at every address: what goes elsewhere would be taken, too."""
    allocated = draft.istio is None or not any(map(_is_off, _environments(draft.istio.values)))
    for name, service in draft.services.items():
        if service.addresses or (allocated and service.resolution != "NONE"):
            continue
        for port in (port for port in service.ports if protocol_of(port) not in _TOLD_APART):
            why = "NONE" if service.resolution == "NONE" else f"{_ALLOCATE} is false"
            yield Problem(
                path=join("services", name, "ports", port),
                what=f"would take everything that goes to that port, wherever: no address is allocated ({why}), and "
                "its protocol does not say the host",
                got=service.ports[port],
                right="addresses, or an http, grpc, https or tls port",
            )


def _environments(values: Mapping[str, Any]) -> Iterator[Any]:
    """Yield what the chart's values say of istiod's environment."""
    pilot = values.get("pilot")
    yield values.get("env")
    yield pilot.get("env") if isinstance(pilot, Mapping) else None


def _is_off(environment: Any) -> bool:
    """Return whether an environment switches the allocation of addresses off."""
    return isinstance(environment, Mapping) and str(environment.get(_ALLOCATE, "true")).lower() in {"false", "0", "f"}
