"""What must hold between the parts of a configuration, each of which is right by itself.

They work on a `Draft`, so they report even while other parts are wrong.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hosts import go_yaml
from settings.draft import Draft, Vm
from settings.namespace_models import RESERVED
from settings.problems import Problem, join
from settings.proxy_config import check_proxy_config
from settings.service_hosts import CLUSTER_DOMAIN, in_cluster_domain
from settings.services import ports_twice
from settings.workload_models import Workload

ENVOY_PORTS = range(15000, 15091)
"""Ports that the sidecar takes for itself on a VM."""

PROXY_CONFIG = "proxy.istio.io/config"
"""The annotation whose YAML text is laid over the mesh's ProxyConfig."""

_NAMING_LABELS = {"app", "app.kubernetes.io/name", "service.istio.io/canonical-name"}
_GATEWAY_VALUES = {
    "_internal_defaults_do_not_set": "give the keys below it at the top level",
    "labels.istio": "leave it out, it is eastwestgateway",
    "name": "leave it out, it is istio-eastwestgateway",
    "networkGateway": "give cluster.network",
    "revision": "give istio.revision",
    "service.type": "give eastWestGateway.service",
}


def check(draft: Draft) -> Iterator[Problem]:
    """Yield what is wrong between the parts."""
    yield from _chart_values(draft)
    for name, workload in draft.workloads.items():
        yield from _workload(name, workload)
        yield from _ports(name, workload)
        if PROXY_CONFIG in workload.annotations:
            config = go_yaml.load(workload.annotations[PROXY_CONFIG])
            yield from check_proxy_config(config, "workloads", name, "annotations", PROXY_CONFIG)
        if workload.service is not None:
            yield from _service(name, workload)
        yield from _static(name, workload)
    yield from _vms_apart(draft.vms)
    yield from _vm_labels(draft.vms)
    yield from _ssh_ports(draft)
    yield from _renewed(draft)


def _chart_values(draft: Draft) -> Iterator[Problem]:
    """Yield chart values that contradict a key of their own."""
    if draft.east_west_gateway is not None:
        yield from reserved_values(draft.east_west_gateway.values, _GATEWAY_VALUES, "eastWestGateway", "values")


def reserved_values(
    values: Mapping[str, Any], reserved: Mapping[str, str], *path: str | int, within: str = ""
) -> Iterator[Problem]:
    """Yield values that the program sets, in the stack file or `within` a file that it names at the path."""
    for keys, instead in reserved.items():
        if not has_path(values, keys.split(".")):
            continue
        if within:
            what = f"sets {keys}, which is not for the user to set here"
            yield Problem(path=join(*path), what=what, got=within, right=instead)
        else:
            yield Problem(path=join(*path, *keys.split(".")), what="not for the user to set here", right=instead)


def has_path(values: Mapping[str, Any], keys: list[str]) -> bool:
    """Return whether nested values have a path."""
    here: Any = values
    for key in keys:
        if not isinstance(here, Mapping) or key not in here:
            return False
        here = here[key]
    return True


def at_path(values: Any, keys: Sequence[str]) -> Any:
    """Return what stands at a path of nested values, or None."""
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values


def _workload(name: str, workload: Workload) -> Iterator[Problem]:
    """Yield what is wrong with the namespace of a workload."""
    if workload.namespace in RESERVED:
        yield Problem(
            path=join("workloads", name, "namespace"),
            what="a namespace that is the cluster's or Istio's own",
            got=workload.namespace,
            right="one for workloads, which the program makes",
        )


def _ports(name: str, workload: Workload) -> Iterator[Problem]:
    """Yield what is wrong with the ports of a workload and of its probe."""
    yield from ports_twice(workload.ports, "workloads", name, "ports")
    ports: dict[tuple[str, ...], int] = {("ports", port_name): port for port_name, port in workload.ports.items()}
    probe = workload.probe
    if probe is not None and probe.http_get is not None:
        ports["probe", "httpGet", "port"] = probe.http_get.port
    if probe is not None and probe.tcp_socket is not None:
        ports["probe", "tcpSocket", "port"] = probe.tcp_socket.port
    for keys, port in ports.items():
        if port in ENVOY_PORTS:
            yield Problem(
                path=join("workloads", name, *keys),
                what=f"one of the sidecar's own ports ({ENVOY_PORTS[0]}-{ENVOY_PORTS[-1]})",
                got=port,
                right="let the application listen on another one",
            )


def _service(name: str, workload: Workload) -> Iterator[Problem]:
    """Yield what is wrong with a workload's service."""
    service = workload.service
    assert service is not None
    path = ("workloads", name, "service")
    yield from ports_twice(service.ports, *path, "ports")
    for port_name in service.ports:
        if port_name not in workload.ports:
            known = f"one of {', '.join(workload.ports)}" if workload.ports else "name it under ports first"
            what = "names none of the workload's ports"
            yield Problem(path=join(*path, "ports", port_name), what=what, got=port_name, right=known)
    place = f"{workload.namespace}.{CLUSTER_DOMAIN}"
    own = rf"[a-z]([-a-z0-9]*[a-z0-9])?\.{re.escape(place)}"
    if service.host and in_cluster_domain(service.host) and not re.fullmatch(own, service.host):
        what = "not the name of a Service in the workload's namespace"
        right = f"a name as in {name}.{place}, or a host outside of the cluster's domain, as in {name}.mesh.internal"
        yield Problem(path=join(*path, "host"), what=what, got=service.host, right=right)


def _static(name: str, workload: Workload) -> Iterator[Problem]:
    """Yield static VMs of a workload of which no client would reach anything."""
    if not workload.ports:
        for vm_name, vm in workload.vms.items():
            if vm.static:
                what = f"there is nothing to reach there: workloads.{name} names no ports"
                right = f"name the application's ports in workloads.{name}.ports"
                yield Problem(path=join("workloads", name, "vms", vm_name, "static"), what=what, right=right)


def _vms_apart(vms: Sequence[Vm]) -> Iterator[Problem]:
    """Yield VMs that share a name or an address."""
    names: dict[str, Vm] = {}
    addresses: dict[str, Vm] = {}
    for vm in vms:
        other = names.setdefault(vm.name, vm)
        if other is not vm:
            what = f"the name of {other.path()} too"
            yield Problem(path=vm.path(), what=what, got=vm.name, right="a name that is unique in the stack")
        other = addresses.setdefault(vm.machine.address, vm)
        if other is not vm:
            what = f"the address of {other.path('address')} too"
            yield Problem(path=vm.path("address"), what=what, got=vm.machine.address, right="an address of its own")


def _vm_labels(vms: Sequence[Vm]) -> Iterator[Problem]:
    """Yield labels that would take a VM out of its workload's Service."""
    for vm in vms:
        for key in vm.machine.labels.keys() & _NAMING_LABELS:
            what = "names the application, by which its Service finds the VM"
            right = f"give it in workloads.{vm.workload}.labels"
            yield Problem(path=vm.path("labels", key), what=what, got=vm.machine.labels[key], right=right)


def _ssh_ports(draft: Draft) -> Iterator[Problem]:
    """Yield VMs whose ssh port the sidecar would take over, which locks everybody out."""
    default = draft.hosts.ssh.port if draft.hosts is not None else 22
    for name, group in itertools.groupby(draft.vms, key=lambda vm: vm.workload):
        workload = draft.workloads.get(name)
        if workload is None:
            continue
        for vm in group:
            if vm.machine.static:
                continue
            port = vm.machine.ssh.port or default
            path = vm.path("ssh", "port") if vm.machine.ssh.port else "hosts.ssh.port"
            if port in workload.ports.values():
                what = f"also a port of workloads.{name}, which the sidecar takes over"
                yield Problem(path=path, what=what, got=port, right="another port for one of the two")
            elif port != 22 and not workload.ports:
                what = f"workloads.{name} names no ports, so the sidecar takes all but 22, this one too"
                yield Problem(
                    path=path, what=what, got=port, right=f"name the application's ports in workloads.{name}.ports"
                )


def _renewed(draft: Draft) -> Iterator[Problem]:
    """Yield names under `renew` that no VM with a token has."""
    vms = {vm.name: vm.machine for vm in draft.vms}
    for index, name in enumerate(draft.renew):
        path = join("renew", index)
        if name in draft.renew[:index]:
            yield Problem(path=path, what="named twice", got=name, right="each VM once")
        elif name not in vms:
            yield Problem(path=path, what="names no VM of this stack", got=name, right="leave it out")
        elif vms[name].static:
            yield Problem(path=path, what="a static VM, which has no token", got=name, right="leave it out")
