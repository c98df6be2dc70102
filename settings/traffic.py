"""What must hold between traffic rules and the hosts that they are about."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from settings.draft import Draft
from settings.problems import Problem, join
from settings.service_hosts import CLUSTER_DOMAIN, hosts_of, service_host
from settings.service_models import MeshService
from settings.traffic_models import Destination, HostTraffic, WeightedDestination
from settings.traffic_rules import check_rules
from settings.workload_models import Workload

_CLUSTER_HOST = (
    rf"[a-z]([-a-z0-9]*[a-z0-9])?\.(?P<namespace>[a-z0-9]([-a-z0-9]*[a-z0-9])?)\.{re.escape(CLUSTER_DOMAIN)}"
)
_ISTIOS_LABELS = ("topology.istio.io/", "topology.kubernetes.io/", "service.istio.io/", "security.istio.io/")
"""Prefixes of labels that Istio gives to endpoints itself, by what it finds on them."""


_OTHER_PROTOCOLS = {"https", "mongo", "mysql", "redis", "tcp", "tls", "udp"}
"""What Istio takes a port's name for when its requests cannot be told apart."""


@dataclass(frozen=True, kw_only=True)
class MeshHost:
    """A host that the stack, or the cluster, has."""

    namespace: str
    ports: Mapping[str, int] = field(default_factory=dict)
    """Its ports by name; none where the stack does not say them."""


def mesh_host(host: str, workloads: Mapping[str, Workload], services: Mapping[str, MeshService]) -> MeshHost | None:
    """Return what is known of a host; None for one that nobody declares.

    A name below the cluster's domain may be a Service's that the stack does not make.
    """
    for name, workload in workloads.items():
        if service_host(name, workload) == host:
            assert workload.service is not None
            return MeshHost(namespace=workload.namespace, ports=workload.service.ports)
    for service in services.values():
        if host in service.hosts:
            return MeshHost(namespace=service.namespace, ports=service.ports)
    match = re.fullmatch(_CLUSTER_HOST, host)
    return MeshHost(namespace=match["namespace"]) if match else None


def check_traffic(draft: Draft) -> Iterator[Problem]:
    """Yield what is wrong with traffic rules."""
    used = {place for host, traffic in draft.traffic.items() for place in _led_to(host, traffic)}
    for host, traffic in draft.traffic.items():
        if "." in host and mesh_host(host, draft.workloads, draft.services) is None:
            yield _undeclared(host, "traffic", host)
        if traffic == HostTraffic():
            what, right = "says nothing of the host", "subsets and routes, a timeout, or leave it out"
            yield Problem(path=join("traffic", host), what=what, right=right)
        yield from _protocol(host, traffic, draft)
        yield from _subsets(host, traffic, draft, {subset for place, subset in used if place == host})
        yield from check_rules(host, traffic)
        for keys, rule in traffic.rules:
            yield from _weights(host, rule.routes, "traffic", host, *keys, "routes")
            for more, destination in rule.destinations:
                yield from _destination(host, destination, draft, "traffic", host, *keys, *more)


def _led_to(host: str, traffic: HostTraffic) -> Iterator[tuple[str, str | None]]:
    """Yield the hosts and subsets that a host's rules lead to."""
    for _, rule in traffic.rules:
        for _, destination in rule.destinations:
            yield destination.host or host, destination.subset


def _protocol(host: str, traffic: HostTraffic, draft: Draft) -> Iterator[Problem]:
    """Yield rules for HTTP requests of a host that has none."""
    found = mesh_host(host, draft.workloads, draft.services)
    names = list(found.ports) if found else []
    if traffic.acts and names and all(name.split("-")[0] in _OTHER_PROTOCOLS for name in names):
        what = f"rules for HTTP requests of a host whose ports are {', '.join(names)}"
        yield Problem(path=join("traffic", host), what=what, right="leave them out, or name a port http, http2 or grpc")


def _undeclared(host: str, *path: str | int) -> Problem:
    """Return the problem of a host that nobody declares."""
    what = "a host that neither a workload's service nor an entry of services declares"
    right = f"declare it, or name a Service of the cluster, <service>.<namespace>.{CLUSTER_DOMAIN}"
    return Problem(path=join(*path), what=what, got=host, right=right)


def _subsets(host: str, traffic: HostTraffic, draft: Draft, used: set[str | None]) -> Iterator[Problem]:
    """Yield subsets that lead nowhere, and those that nothing leads to."""
    bearers = _behind(host, draft)
    for name, labels in traffic.subsets.items():
        path = ("traffic", host, "subsets", name)
        if name not in used:
            what, right = "a subset to which no route leads", "a route to it, with weight: 0 for later, or leave it out"
            yield Problem(path=join(*path), what=what, right=right)
        wanted = {key: value for key, value in labels.items() if not key.startswith(_ISTIOS_LABELS)}
        borne = bearers is None or any(wanted.items() <= bearer.items() for bearer in bearers)
        if not borne and name not in traffic.pod_subsets:
            shown = ", ".join(f"{key}={labels[key]}" for key in labels)
            right = f"labels of some of them, or podSubsets: [{name}] where pods bear them"
            what = "labels that no VM or endpoint of the host bears"
            yield Problem(path=join(*path), what=what, got=shown, right=right)
    for index, name in enumerate(traffic.pod_subsets):
        if name not in traffic.subsets:
            where = join("traffic", host, "podSubsets", index)
            yield Problem(path=where, what="names no subset", got=name, right=_known(traffic))


def _behind(host: str, draft: Draft) -> list[Mapping[str, str]] | None:
    """Return the labels of everything that answers under a host; None where the stack does not know all of it."""
    found = [made for made in hosts_of(draft) if made.name == host]
    if not found or any(made.pods for made in found):
        return None
    return [labels for made in found for labels in made.endpoints]


def _known(traffic: HostTraffic | None) -> str:
    """Return what may be named as a subset."""
    names = list(traffic.subsets) if traffic else []
    return f"one of {', '.join(names)}" if names else "name it under subsets first"


def _weights(host: str, routes: Sequence[WeightedDestination], *path: str | int) -> Iterator[Problem]:
    """Yield what is wrong with the shares of a list of routes."""
    first: dict[tuple[str, str | None, int | None], int] = {}
    for index, route in enumerate(routes):
        other = first.setdefault((route.host or host, route.subset, route.port), index)
        if other != index:
            what = f"leads where {join(*path, other)} leads too"
            yield Problem(path=join(*path, index), what=what, right="each destination once")
        if route.weight is None and len(routes) > 1:
            right = "each of several routes with its share"
            yield Problem(path=join(*path, index, "weight"), what="missing", right=right)
    weights = [route.weight for route in routes if route.weight is not None]
    if weights and len(weights) == len(routes) and sum(weights) != 100:
        what = f"weights of {' + '.join(map(str, weights))}"
        yield Problem(path=join(*path), what=what, got=sum(weights), right="shares that are 100 together")


def _destination(host: str, to: Destination, draft: Draft, *path: str | int) -> Iterator[Problem]:
    """Yield what is wrong with a place that requests go to."""
    place = to.host or host
    target = mesh_host(place, draft.workloads, draft.services)
    if target is None and to.host:
        yield _undeclared(place, *path, "host")
    elif target is not None and to.host:
        yield from _port(host, to, list(target.ports.values()), draft, *path, "port")
    known = draft.traffic.get(place)
    if to.subset is not None and (known is None or to.subset not in known.subsets):
        what = "names no subset" if place == host else f"names no subset of {join('traffic', place)}"
        yield Problem(path=join(*path, "subset"), what=what, got=to.subset, right=_known(known))


def _port(host: str, to: Destination, ports: Sequence[int], draft: Draft, *path: str | int) -> Iterator[Problem]:
    """Yield a port that the other host does not have; without one, Istio takes its only one or that of the request."""
    listed = ", ".join(map(str, ports))
    if to.port is not None and ports and to.port not in ports:
        yield Problem(path=join(*path), what="no port of that host", got=to.port, right=f"one of {listed}")
    own = mesh_host(host, draft.workloads, draft.services)
    if to.port is None and len(ports) > 1 and own and not set(own.ports.values()) <= set(ports):
        what = f"missing, and {to.host} has several, but not all of this host's"
        yield Problem(path=join(*path), what=what, right=f"one of {listed}")
