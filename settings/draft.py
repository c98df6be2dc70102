"""What can be had from a configuration even while parts of it are wrong, so that one mistake hides no other."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from settings.ingress_models import IngressGateway
from settings.model import Model
from settings.models import Cluster, EastWestGateway, Hosts, Istio
from settings.namespace_models import Namespace
from settings.problems import join
from settings.service_models import MeshService
from settings.traffic_models import HostTraffic
from settings.workload_models import VirtualMachine, Workload

_M = TypeVar("_M", bound=Model)


@dataclass(frozen=True, kw_only=True)
class Vm:
    """A VM of the configuration and where it stands."""

    workload: str
    name: str
    machine: VirtualMachine

    def path(self, *keys: str) -> str:
        """Return the path of one of the VM's keys."""
        return join(*self.keys, *keys)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that lead to the VM."""
        return ("workloads", self.workload, "vms", self.name)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """The parts of a configuration that are right by themselves."""

    cluster: Cluster | None = None
    istio: Istio | None = None
    east_west_gateway: EastWestGateway | None = None
    ingress_gateway: IngressGateway | None = None
    hosts: Hosts | None = None
    namespaces: Mapping[str, Namespace] = field(default_factory=dict)
    services: Mapping[str, MeshService] = field(default_factory=dict)
    traffic: Mapping[str, HostTraffic] = field(default_factory=dict)
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    vms: tuple[Vm, ...] = ()
    """Also those of workloads that are wrong otherwise."""
    renew: tuple[str, ...] = ()
    ssh_private_key: str = ""


def draft_of(raw: Mapping[str, Any]) -> Draft:
    """Return the parts of a configuration that are right by themselves."""
    key, workloads = raw.get("sshPrivateKey"), dict(_workloads(raw.get("workloads")))
    return Draft(
        cluster=_part(Cluster, raw.get("cluster")),
        istio=_part(Istio, raw.get("istio")),
        east_west_gateway=_part(EastWestGateway, raw.get("eastWestGateway") or {}),
        ingress_gateway=_part(IngressGateway, raw.get("ingressGateway") or {}),
        hosts=_part(Hosts, raw.get("hosts")),
        namespaces=_parts(Namespace, raw.get("namespaces")),
        services=_parts(MeshService, raw.get("services")),
        traffic=_parts(HostTraffic, raw.get("traffic")),
        workloads={name: workload for name, (workload, _) in workloads.items() if workload is not None},
        vms=tuple(vm for _, vms in workloads.values() for vm in vms),
        renew=tuple(name for name in _list(raw.get("renew")) if isinstance(name, str)),
        ssh_private_key=key if isinstance(key, str) else "",
    )


def _list(raw: Any) -> list[Any]:
    return raw if isinstance(raw, list) else []


def _part(model: type[_M], raw: Any) -> _M | None:
    """Return a part of the configuration if it is right but for keys that nobody knows."""
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        extras = [detail["loc"] for detail in error.errors() if detail["type"] == "extra_forbidden"]
    try:
        return model.model_validate(functools.reduce(_without, extras, raw)) if extras else None
    except ValidationError:
        return None


def _parts(model: type[_M], raw: Any) -> dict[str, _M]:
    """Return those of a section's entries that are right by themselves, by name."""
    found = {name: _part(model, body) for name, body in raw.items()} if isinstance(raw, dict) else {}
    return {name: part for name, part in found.items() if part is not None and isinstance(name, str)}


def _without(raw: Any, location: Sequence[str | int]) -> Any:
    """Return data without what stands at a location."""
    first, rest = location[0], location[1:]
    if isinstance(raw, list):
        return [_without(value, rest) if index == first else value for index, value in enumerate(raw)]
    if rest:
        return {key: _without(value, rest) if key == first else value for key, value in raw.items()}
    return {key: value for key, value in raw.items() if key != first}


def _workloads(raw: Any) -> Iterator[tuple[str, tuple[Workload | None, list[Vm]]]]:
    """Yield each workload's name, the workload if it is right, and its VMs that are right."""
    for name, body in raw.items() if isinstance(raw, dict) else ():
        machines = body.get("vms") if isinstance(body, dict) else None
        vms = []
        for vm_name, vm_body in machines.items() if isinstance(machines, dict) else ():
            machine = _part(VirtualMachine, vm_body)
            if machine is not None:
                vms.append(Vm(workload=str(name), name=str(vm_name), machine=machine))
        workload = _part(Workload, {**body, "vms": {}}) if isinstance(body, dict) else None
        if workload is not None:
            workload = workload.model_copy(update={"vms": {vm.name: vm.machine for vm in vms}})
        yield str(name), (workload, vms)
