"""What there is to check in a stack, by its settings; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from settings import HostTraffic, Settings, Workload, mesh_host, service_host

HTTP = ("http", "http2", "grpc")
RETRIED_WHEN_REFUSED = {"connect-failure", "reset", "5xx", "gateway-error"}
"""Conditions under which a refused connection is tried again; Istio's default has the first."""
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, kw_only=True)
class Target:
    """A host that is asked."""

    host: str
    port: int
    path: str = "/"
    guarded: bool = False
    """Whether the stack lets only some in, so that 403 is an answer, too."""

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://{self.host}:{self.port}{self.path}"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """A VM that asks."""

    vm: str
    namespace: str
    identity: str


@dataclass(frozen=True, kw_only=True)
class Outside:
    """A host outside of the cluster's domain."""

    host: str
    target: Target | None
    """Where it speaks HTTP, if it does."""
    given: Sequence[str] = ()
    """Addresses that the stack gives it."""
    home: str
    """Namespace of its ServiceEntry."""
    export_to: Sequence[str] = ()

    def seen_in(self, namespace: str) -> bool:
        """Whether sidecars of a namespace know it."""
        shown = {self.home if place == "." else place for place in self.export_to}
        return not shown or not shown.isdisjoint({"*", namespace})


def seconds(duration: str) -> float:
    """A duration of a stack file in seconds."""
    number = duration.rstrip("msh")
    return float(number) * _UNITS[duration[len(number) :]]


def targets(stack: Settings) -> dict[str, Target]:
    """Every workload's host that speaks HTTP, by the workload's name."""
    found = {}
    for name, workload in stack.workloads.items():
        host = service_host(name, workload)
        port = _http_port(workload.service.ports) if workload.service else None
        if host and port and workload.vms:
            guarded = _guarded(stack, workload)
            found[name] = Target(host=host, port=port, path=_path(workload), guarded=guarded)
    return found


def _path(workload: Workload) -> str:
    """What an application answers without harm: what its probe asks for, else `/`."""
    probe: Any = workload.probe.model_dump(by_alias=True) if workload.probe else {}
    return str((probe.get("httpGet") or {}).get("path") or "/")


def _http_port(ports: Mapping[str, int]) -> int | None:
    return next((port for name, port in ports.items() if name.split("-")[0] in HTTP), None)


def _guarded(stack: Settings, workload: Workload) -> bool:
    namespace = stack.namespaces.get(workload.namespace)
    return workload.access is not None or (namespace is not None and namespace.access is not None)


def routed(stack: Settings, host: str, known_port: int | None = None) -> Target | None:
    """The target of a host with traffic rules; None where nothing says at which port it speaks HTTP."""
    for name, target in targets(stack).items():
        if service_host(name, stack.workloads[name]) == host:
            return target
    found = mesh_host(host, stack.workloads, stack.services)
    port = _http_port(found.ports) if found and found.ports else known_port
    return Target(host=host, port=port) if port else None


def weights(traffic: HostTraffic) -> dict[str, int]:
    """Subset -> weight, of what is no other host's; empty where there is nothing to count."""
    if any(route.host is not None for route in traffic.routes):
        return {}
    return {route.subset or "": 100 if route.weight is None else route.weight for route in traffic.routes}


def first_end(rules: HostTraffic) -> float:
    """When a request without any answer may end, at the soonest, in seconds: after one attempt, or all of them."""
    given = [rules.timeout, rules.retries.per_try_timeout if rules.retries else None]
    return min(seconds(duration) for duration in given if duration)


def connect_seconds(rules: HostTraffic) -> float:
    """How long a connection may take to come about; 10 s is Istio's default."""
    tcp = rules.connection_pool.tcp if rules.connection_pool else None
    return seconds(tcp.connect_timeout) if tcp and tcp.connect_timeout else 10.0


def callers(stack: Settings) -> list[Caller]:
    """The first VM with a sidecar of each workload."""
    found = []
    for workload in stack.workloads.values():
        for vm in list(workload.meshed_vms)[:1]:
            account = f"ns/{workload.namespace}/sa/{workload.service_account}"
            found.append(
                Caller(vm=vm, namespace=workload.namespace, identity=f"spiffe://{stack.istio.trust_domain}/{account}")
            )
    return found


def direct(stack: Settings) -> dict[str, tuple[str, int, bool]]:
    """VM with a sidecar -> address, HTTP port of its application, and whether it takes mutual TLS only."""
    found = {}
    for workload in stack.workloads.values():
        port = _http_port(workload.ports)
        namespace = stack.namespaces.get(workload.namespace)
        mode = (namespace.mutual_tls if namespace else None) or stack.istio.mutual_tls
        for name, vm in workload.meshed_vms.items():
            if port:
                found[name] = (vm.address, port, mode == "STRICT")
    return found


def outside(stack: Settings) -> dict[str, Outside]:
    """Hosts that only the sidecar's DNS knows; it does not know those with resolution NONE, or ranges of addresses."""
    found = {
        host: Outside(
            host=host,
            target=Target(host=host, port=port, guarded=_guarded_in(stack, service.namespace)) if port else None,
            given=service.addresses,
            home=service.namespace,
            export_to=service.export_to,
        )
        for service in stack.services.values()
        if service.resolution != "NONE" and not (service.addresses and all("/" in item for item in service.addresses))
        for host, port in ((host, _http_port(service.ports)) for host in service.hosts)
    }
    for name, target in targets(stack).items():
        if not target.host.endswith(".svc.cluster.local"):
            found[target.host] = Outside(host=target.host, target=target, home=stack.workloads[name].namespace)
    return found


def _guarded_in(stack: Settings, namespace: str) -> bool:
    return any(_guarded(stack, each) for each in stack.workloads.values() if each.namespace == namespace)
