"""The lab's network: a switch in a namespace of its own, and a leg from it to every node, VM and to the machine.

What `ip` is told is computed as data first. The machine's own namespace gets one interface with one address and
nothing else: no forwarding, no rules, no listeners.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab import machine, paths
from lab.errors import LabError
from lab.spec import MACHINE_ADDRESS, MIRROR_ADDRESS, SWITCH_NETWORK, ClusterSpec, LabSpec, VmSpec

SWITCH = "ivm-switch"
MIRROR = "ivm-mirror"
MACHINE_INTERFACE = "ivm-host"
PREFIX = "ivm-"
"""What the names of the lab's namespaces start with."""


@dataclass(frozen=True, kw_only=True)
class Leg:
    """One participant's connection to the switch."""

    namespace: str | None
    """Network namespace; None is the machine's own."""
    address: str
    routes: tuple[str, ...] = ()
    """What follows `ip route add`."""
    forwards: bool = False
    """Whether its kernel forwards packets."""

    @property
    def port(self) -> str:
        """Name of the switch's end of the cable."""
        return f"port{self.address.rpartition('.')[2]}"

    @property
    def mac(self) -> str:
        """Hardware address, the same each time, so that nobody's memory of it is ever wrong."""
        return "02:4d:" + ":".join(f"{int(part):02x}" for part in self.address.split("."))

    @property
    def interface(self) -> str:
        """Name of its own end."""
        return "eth0" if self.namespace else MACHINE_INTERFACE


@dataclass(frozen=True)
class Batch:
    """Lines for `ip -batch` in one namespace (None: the machine's own)."""

    namespace: str | None
    lines: tuple[str, ...]


def legs(spec: LabSpec) -> tuple[Leg, ...]:
    """Return every leg of a lab."""
    nodes = tuple(node_leg(cluster) for cluster in spec.cluster_specs)
    return (machine_leg(), mirror_leg(), *nodes, *(vm_leg(vm) for vm in spec.vms))


def machine_leg() -> Leg:
    """Return the leg by which the machine reaches nodes and VMs."""
    return Leg(namespace=None, address=MACHINE_ADDRESS)


def mirror_leg() -> Leg:
    """Return the leg of the mirror, also everybody's default route, which refuses at once what is not in the lab."""
    return Leg(namespace=MIRROR, address=MIRROR_ADDRESS, routes=("unreachable default",), forwards=True)


def node_leg(cluster: ClusterSpec) -> Leg:
    """Return the leg of a cluster's node."""
    return Leg(namespace=cluster.namespace, address=cluster.address, routes=(_DEFAULT,), forwards=True)


def vm_leg(vm: VmSpec) -> Leg:
    """Return the leg of a VM: flat network, so pods and services of the first cluster are routed through its node.

    One that is not routed has no way to them.
    """
    cluster = ClusterSpec(1)
    ranges = (cluster.pod_range, cluster.service_range) if vm.routed else ()
    return Leg(
        namespace=vm.namespace, address=vm.address, routes=(*(f"{r} via {cluster.address}" for r in ranges), _DEFAULT)
    )


_DEFAULT = f"default via {MIRROR_ADDRESS}"


def switch_plan() -> Batch:
    """Return what makes the switch, in its namespace."""
    return Batch(SWITCH, ("link set lo up", "link add br0 type bridge", "link set br0 up"))


def cable_plan(wanted: Iterable[Leg]) -> tuple[Batch, ...]:
    """Return what connects legs to the switch: all cables in one batch, then each side."""
    wanted = tuple(wanted)
    ends = [(leg, f" netns {leg.namespace}" if leg.namespace else "") for leg in wanted]
    cables = tuple(
        f"link add {leg.port} netns {SWITCH} type veth peer name {leg.interface} address {leg.mac}{netns}"
        for leg, netns in ends
    )
    ports = tuple(f"link set {leg.port} master br0 up" for leg in wanted)
    return (Batch(None, cables), Batch(SWITCH, ports), *(Batch(leg.namespace, _leg_lines(leg)) for leg in wanted))


def _leg_lines(leg: Leg) -> tuple[str, ...]:
    return (
        *(("link set lo up",) if leg.namespace else ()),
        f"addr add {leg.address}/{SWITCH_NETWORK.prefixlen} dev {leg.interface}",
        f"link set {leg.interface} up",
        *(f"route add {route}" for route in leg.routes),
    )


def inside(namespace: str, *argv: str) -> list[str]:
    """Return the command that runs `argv` in a network namespace and in no new mount namespace."""
    return ["/usr/bin/nsenter", f"--net={paths.netns(namespace)}", "--", *argv]


def create(wanted: Iterable[Leg]) -> None:
    """Make the switch and the given legs, as far as they are not there."""
    existing = namespaces()
    if SWITCH not in existing:
        _add_namespace(SWITCH)
        _apply(switch_plan())
    new = [leg for leg in wanted if not _connected(leg, existing)]
    for leg in new:
        if leg.namespace and leg.namespace not in existing:
            _add_namespace(leg.namespace)
    for batch in cable_plan(new) if new else ():
        _apply(batch)
    for leg in new:
        if leg.namespace and leg.forwards:
            machine.run(inside(leg.namespace, "/bin/sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"))


def remove(namespace: str, port: str | None = None) -> None:
    """Remove a namespace and, at once, its cable (the kernel would take its time)."""
    if port and SWITCH in namespaces():
        _quietly("-n", SWITCH, "link", "del", port)
    if namespace in namespaces():
        machine.run(["ip", "netns", "del", namespace])


def remove_all() -> None:
    """Remove every namespace of the lab and the machine's leg."""
    _quietly("link", "del", MACHINE_INTERFACE)
    for namespace in sorted(namespaces()):
        remove(namespace)


def namespaces() -> set[str]:
    """Return the lab's namespaces that there are."""
    return {path.name for path in paths.NETNS.glob(f"{PREFIX}*")} if paths.NETNS.is_dir() else set()


def check_free() -> None:
    """Make sure that nothing else on the machine uses the lab's range.

    Raises:
        LabError: A route of another interface covers it.
    """
    found = subprocess.run(
        ["ip", "-json", "route", "show", "root", str(SWITCH_NETWORK)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    used = conflicts(json.loads(found.stdout or "[]"))
    if used:
        raise LabError(
            f"the lab needs {SWITCH_NETWORK}, which {' and '.join(used)} of this machine already uses; "
            "disconnect that network while the lab runs"
        )


def conflicts(routes: Sequence[dict[str, str]]) -> list[str]:
    """Return the interfaces, other than the lab's, that have a route inside the lab's range."""
    return sorted(
        {r.get("dev", "?") for r in routes if r.get("dst") != "default" and r.get("dev") != MACHINE_INTERFACE}
    )


def _connected(leg: Leg, existing: set[str]) -> bool:
    if leg.namespace and leg.namespace not in existing:
        return False
    where = ["-n", leg.namespace] if leg.namespace else []
    show = ["ip", *where, "-br", "addr", "show", "dev", leg.interface]
    done = subprocess.run(show, capture_output=True, text=True, check=False, timeout=20)
    return done.returncode == 0 and f"{leg.address}/" in done.stdout


def _quietly(*args: str) -> None:
    """Run `ip` for something that may not be there."""
    subprocess.run(["ip", *args], capture_output=True, check=False, timeout=20)


def _add_namespace(namespace: str) -> None:
    machine.run(["ip", "netns", "add", namespace])


def _apply(batch: Batch) -> None:
    if batch.lines:
        where = ["-n", batch.namespace] if batch.namespace else []
        machine.run(["ip", *where, "-batch", "-"], "\n".join(batch.lines) + "\n")
