"""Puts a whole lab together as one set of tasks: network, clusters, package mirror, VMs, and the checkout's folder."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from lab import commands, network, paths, processes, sshkeys, vms
from lab.cluster import NETWORK_TASK, Cluster
from lab.spec import LabSpec, VmSpec
from lab.tasks import Task

if TYPE_CHECKING:
    from lab.toolchain import Tools

MIRROR = "mirror"
"""Name of the package mirror's process."""


def tasks(spec: LabSpec, tools: Tools) -> list[Task]:
    """Return the tasks that start whatever of a lab does not run."""
    clusters = [Cluster(cluster, tools) for cluster in spec.cluster_specs]
    env = clusters[0].env
    found = [Task(name=NETWORK_TASK, run=lambda _: network.create(network.legs(spec)))]
    found += [task for cluster in clusters for task in cluster.tasks()]
    found += [
        Task(name="package mirror", run=lambda _: _start_mirror(tools, env), after=(NETWORK_TASK,)),
        Task(name="VM roots", run=lambda _: _prepare_vms(spec.vms, tools)),
    ]
    return found + [
        Task(name=f"VM {vm.name}", run=partial(vms.boot, vm), after=("VM roots", NETWORK_TASK)) for vm in spec.vms
    ]


def checkout_folder(tools: Tools) -> None:
    """Put into `.lab/` what needs no running lab."""
    paths.LAB.mkdir(exist_ok=True)
    for link, target in ((paths.CHARTS, tools.charts), (paths.LOG_LINK, paths.LOGS)):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    paths.DEB_CHECKSUM.write_text(tools.sidecar_deb_sha256.read_text())


def _start_mirror(tools: Tools, env: dict[str, str]) -> None:
    package = paths.MIRROR / tools.sidecar_deb.name
    if not package.is_symlink():
        paths.MIRROR.mkdir(parents=True, exist_ok=True)
        package.symlink_to(tools.sidecar_deb)
    if not processes.alive(MIRROR):
        processes.spawn(MIRROR, commands.mirror(paths.MIRROR, sys.executable), env=env)


def _prepare_vms(wanted: Iterable[VmSpec], tools: Tools) -> None:
    wanted = tuple(wanted)
    sshkeys.ensure(paths.SSH_KEY, "istio-vm-lab")
    for vm in wanted:
        vms.prepare(vm, tools.vm_root)
    sshkeys.write_known_hosts(wanted)
