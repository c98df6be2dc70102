"""What must hold for VMs to reach istiod and the cluster's network: the gateway's keys among themselves, and routes."""

from collections.abc import Iterator, Sequence

from settings.draft import Draft
from settings.models import EastWestGateway, Hosts
from settings.problems import Problem, join
from settings.route_models import Route
from settings.workload_models import VirtualMachine

_OWN_WITH_NODE_PORTS = {
    ("service", "ports"): "give eastWestGateway.nodePorts",
    ("env", "ISTIO_META_REQUESTED_NETWORK_VIEW"): "give cluster.network",
    ("labels", "topology.istio.io/network"): "give cluster.network",
}
"""Values of the chart that the program sets for a gateway on node ports."""


def routes_of(hosts: Hosts, machine: VirtualMachine) -> Sequence[Route]:
    """Return the routes of a VM: its own, else those of all."""
    return hosts.routes if machine.routes is None else machine.routes


def check_ways(draft: Draft) -> Iterator[Problem]:
    """Yield what keeps VMs from reaching istiod, as far as that can be seen here."""
    gateway, hosts = draft.east_west_gateway, draft.hosts
    if gateway is not None:
        yield from _gateway(gateway)
    if hosts is not None:
        yield from _same_range(hosts.routes, "hosts", "routes")
        if gateway is not None:
            yield from _no_way(draft, gateway, hosts)
    for vm in draft.vms:
        path = ("workloads", vm.workload, "vms", vm.name, "routes")
        yield from _same_range(vm.machine.routes or (), *path)
        for index, route in enumerate(routes_of(hosts, vm.machine) if hosts else vm.machine.routes or ()):
            if route.via == vm.machine.address:
                where = ("hosts", "routes") if vm.machine.routes is None else path
                what = f"the address of {vm.path()} itself"
                right = f"a router, or {vm.path('routes')}: [] for this VM"
                yield Problem(path=join(*where, index, "via"), what=what, got=route.via, right=right)


def _gateway(gateway: EastWestGateway) -> Iterator[Problem]:
    """Yield keys that the kind of gateway has no use for, and ports that two keys name."""
    ports = gateway.node_ports.model_dump(by_alias=True, exclude_none=True)
    if gateway.service == "none":
        for key, given in (("address", gateway.address), ("values", gateway.values)):
            if given:
                right = "hosts.istiodAddress for an istiod elsewhere" if key == "address" else "leave it out"
                what = "says something of a gateway that service: none does without"
                yield Problem(path=f"eastWestGateway.{key}", what=what, got=given, right=right)
    if gateway.service != "NodePort" and ports:
        what = f"only for service: NodePort, not {gateway.service}"
        yield Problem(path="eastWestGateway.nodePorts", what=what, right="leave it out, or give service: NodePort")
    first: dict[int, str] = {}
    for name, port in ports.items():
        if first.setdefault(port, name) != name:
            what = f"the port of eastWestGateway.nodePorts.{first[port]} too"
            path = join("eastWestGateway", "nodePorts", name)
            yield Problem(path=path, what=what, got=port, right="each port once")
    if gateway.service == "NodePort":
        for (section, key), right in _OWN_WITH_NODE_PORTS.items():
            part = gateway.values.get(section)
            if isinstance(part, dict) and key in part:
                path = join("eastWestGateway", "values", section, key)
                yield Problem(path=path, what="not for the user to set here", right=right)


def _same_range(routes: Sequence[Route], *path: str) -> Iterator[Problem]:
    """Yield ranges that one list leads two ways."""
    first: dict[str, int] = {}
    for index, route in enumerate(routes):
        if first.setdefault(route.to, index) != index:
            what = f"the range of {join(*path, first[route.to])} too"
            yield Problem(path=join(*path, index, "to"), what=what, got=route.to, right="each range once")


def _no_way(draft: Draft, gateway: EastWestGateway, hosts: Hosts) -> Iterator[Problem]:
    """Yield that VMs cannot reach istiod where no gateway leads to it."""
    stuck = [vm.path() for vm in draft.vms if not vm.machine.static and not routes_of(hosts, vm.machine)]
    if gateway.leads_to_istiod or hosts.istiod_address or not stuck:
        return
    path, got = (
        ("eastWestGateway.service", gateway.service)
        if gateway.service == "none"
        else ("eastWestGateway.exposeIstiod", gateway.expose_istiod)
    )
    others = f" and {len(stuck) - 1} more" if len(stuck) > 1 else ""
    yield Problem(
        path=path,
        what=f"leaves {stuck[0]}{others} without a way to istiod",
        got=got,
        right="give hosts.routes to the cluster's services and pods, or hosts.istiodAddress",
    )
