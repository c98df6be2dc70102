"""What a lab consists of, as data: its VMs and clusters, and every name, address and range that follows.

Nothing here touches the machine; starting, stopping and the tests all derive from the same values.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab import paths
from lab.errors import LabError

SWITCH_NETWORK = ipaddress.ip_network("10.77.0.0/24")
MIRROR_ADDRESS = "10.77.0.5"
"""Package mirror, answer to every DNS question (no such name) and the way out that leads nowhere, fast."""
MACHINE_ADDRESS = "10.77.0.254"
FIRST_VM = 21
LAST_VM = 199
MAX_CLUSTERS = 2
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class VmSpec:
    """One virtual machine."""

    name: str
    """Host name, process name and part of the network namespace's name."""
    address: str
    """IPv4 address on the lab's switch."""
    version: str = "v1"
    """What the hello application on it calls itself."""
    routed: bool = True
    """Whether its network leads to pods and services; without that it reaches the switch only."""

    @property
    def namespace(self) -> str:
        """The VM's network namespace."""
        return f"ivm-{self.name}"

    @property
    def process(self) -> str:
        """Name of its process record and log."""
        return f"vm-{self.name}"

    @property
    def folder(self) -> Path:
        """Where its overlay and host key lie."""
        return paths.VMS / self.name


@dataclass(frozen=True)
class ClusterSpec:
    """One cluster with one node; everything about it follows from its number, counted from 1."""

    number: int

    @property
    def name(self) -> str:
        """Name of the cluster, of its kubeconfig context and of its folders."""
        return f"cluster{self.number}"

    @property
    def node(self) -> str:
        """Name of its only node."""
        return f"node{self.number}"

    @property
    def namespace(self) -> str:
        """Network namespace that all of its processes run in."""
        return f"ivm-{self.node}"

    @property
    def address(self) -> str:
        """The node's address on the switch."""
        return f"10.77.0.{9 + self.number}"

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{self.address}:6443"

    @property
    def pod_range(self) -> str:
        """Range of all pods; the node holds its first /24."""
        return f"10.{243 + self.number}.0.0/16"

    @property
    def node_pod_range(self) -> str:
        """Range of the pods on the node."""
        return f"10.{243 + self.number}.0.0/24"

    @property
    def service_range(self) -> str:
        """Range of service addresses."""
        return f"10.{95 + self.number}.0.0/16"

    @property
    def api_service_address(self) -> str:
        """Address of the service `kubernetes`, the first of the range."""
        return f"10.{95 + self.number}.0.1"

    @property
    def dns_address(self) -> str:
        """Address of the cluster's DNS service."""
        return f"10.{95 + self.number}.0.53"

    @property
    def load_balancer_addresses(self) -> tuple[str, ...]:
        """Addresses for services of type LoadBalancer."""
        first = 200 + 20 * (self.number - 1)
        return tuple(f"10.77.0.{first + i}" for i in range(20))

    @property
    def data(self) -> Path:
        """Folder of etcd, containerd, kubelet, certificates."""
        return paths.DATA / self.name

    @property
    def run(self) -> Path:
        """Folder of sockets and containerd's state."""
        return paths.RUN / self.name

    @property
    def pki(self) -> Path:
        """Folder of keys, certificates and components' kubeconfigs."""
        return self.data / "pki"

    @property
    def containerd_socket(self) -> Path:
        """Socket of the node's containerd."""
        return self.run / "containerd.sock"

    def process(self, component: str) -> str:
        """Return the record and log name of a component of this cluster."""
        return component if self.number == 1 else f"{component}-{self.name}"


@dataclass(frozen=True, kw_only=True)
class LabSpec:
    """Sizes of a lab."""

    vms: tuple[VmSpec, ...] = (
        VmSpec(name="billing-1", address="10.77.0.21"),
        VmSpec(name="billing-2", address="10.77.0.22"),
    )
    clusters: int = 1

    def __post_init__(self) -> None:
        problems = [problem for vm in self.vms for problem in _problems(vm)]
        for what, values in (("name", [vm.name for vm in self.vms]), ("address", [vm.address for vm in self.vms])):
            problems += [
                f"VM {what} {value} is given twice" for value in sorted({v for v in values if values.count(v) > 1})
            ]
        if not 1 <= self.clusters <= MAX_CLUSTERS:
            problems.append(f"clusters: 1 to {MAX_CLUSTERS} (got {self.clusters})")
        if problems:
            raise LabError("; ".join(problems))

    @property
    def cluster_specs(self) -> tuple[ClusterSpec, ...]:
        """The clusters, first to last."""
        return tuple(ClusterSpec(number) for number in range(1, self.clusters + 1))

    def vm(self, name: str) -> VmSpec:
        """Return the VM of that name.

        Raises:
            LabError: There is none; the text lists those there are.
        """
        for vm in self.vms:
            if vm.name == name:
                return vm
        raise LabError(f"no VM {name} in this lab (there are: {', '.join(vm.name for vm in self.vms) or 'none'})")

    def joined(self, other: LabSpec) -> LabSpec:
        """Return the lab that has what either has.

        Raises:
            LabError: A name or address means different VMs in the two.
        """
        added = tuple(vm for vm in other.vms if vm not in self.vms)
        return LabSpec(vms=self.vms + added, clusters=max(self.clusters, other.clusters))

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` reads."""
        return {"vms": [asdict(vm) for vm in self.vms], "clusters": self.clusters}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LabSpec:
        """Return what `to_json` was called on."""
        return cls(vms=tuple(VmSpec(**vm) for vm in data["vms"]), clusters=data["clusters"])

    @classmethod
    def of_size(cls, vms: int, clusters: int = 1) -> LabSpec:
        """Return a lab of `vms` VMs called billing-1, billing-2 ... on the first free addresses."""
        if not 0 <= vms <= LAST_VM - FIRST_VM + 1:
            raise LabError(f"vms: 0 to {LAST_VM - FIRST_VM + 1} (got {vms})")
        names = (VmSpec(name=f"billing-{i + 1}", address=f"10.77.0.{FIRST_VM + i}") for i in range(vms))
        return cls(vms=tuple(names), clusters=clusters)


def _problems(vm: VmSpec) -> list[str]:
    problems = []
    if not _NAME.fullmatch(vm.name):
        problems.append(f"VM name {vm.name!r}: lower case letters, digits and '-', at most 40")
    if vm.name in {"switch", "mirror"} or re.fullmatch(r"node\d+", vm.name):
        problems.append(f"VM name {vm.name!r} is taken by a part of the lab")
    try:
        host = int(ipaddress.ip_address(vm.address)) - int(SWITCH_NETWORK.network_address)
    except ValueError:
        host = -1
    if not FIRST_VM <= host <= LAST_VM:
        problems.append(f"VM {vm.name}: address 10.77.0.{FIRST_VM} to 10.77.0.{LAST_VM} (got {vm.address})")
    return problems
