"""The lab as a library: start, stop, status and what tests do to single VMs.

One lab a machine. Starting brings whatever is missing to a running lab and repairs what a killed start or a crash has
left; stopping leaves nothing outside the tool cache.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lab import assembly, cgroups, commands, machine, network, paths, processes, sshkeys, vms
from lab.errors import LabError
from lab.spec import LabSpec, VmSpec
from lab.tasks import Cancel
from lab.tasks import run as run_tasks

if TYPE_CHECKING:
    from lab.progress import Progress
    from lab.toolchain import Tools

__all__ = ["Component", "Lab", "LabError", "LabSpec", "VmSpec"]

_IRREPLACEABLE = ("etcd", "containerd")
"""Components that hold what a cluster is: where one has died, the lab is made anew."""


@dataclass(frozen=True)
class Component:
    """A line of `status`."""

    name: str
    state: str
    """running, stopped or dead (it should run)."""
    pid: int | None
    log: Path


class Lab:
    """The machine's lab, seen from this checkout.

    Args:
        spec: The sizes to start; by default those of the lab that runs, else two VMs and a cluster.
    """

    def __init__(self, spec: LabSpec | None = None) -> None:
        self._wanted = spec

    @property
    def spec(self) -> LabSpec:
        """Sizes of the running lab; of the wanted one where none runs."""
        return _running_spec() or self._wanted or LabSpec()

    @property
    def running(self) -> bool:
        """Whether this checkout's lab was started completely and all of it runs, VMs that were switched off aside."""
        return self._started and all(c.state != "dead" for c in self.status())

    @property
    def _started(self) -> bool:
        return machine.owner() == paths.CHECKOUT and paths.READY.exists()

    def start(self, progress: Progress) -> None:
        """Start the lab, or what of it does not run.

        Raises:
            LabError: It cannot be; the text says what to do.
        """
        from lab.toolchain import ensure

        machine.check_root()
        self.tools = tools = ensure(progress)
        machine.check_programs()
        with machine.lock(progress.say):
            self._refuse_foreign()
            if self._must_start_anew():
                progress.say("machine: removing what is left of a lab that no longer runs")
                self._remove()
                machine.remove_tree(paths.LAB)
                paths.RUN.mkdir(parents=True, exist_ok=True)
            wanted = self._wanted or LabSpec()
            running = _running_spec()
            wanted = running.joined(wanted) if running else wanted
            if running == wanted and self._started and all(c.state == "running" for c in self.status()):
                return
            if running is None:
                network.check_free()
            machine.claim()
            processes.write_json(paths.SPEC, wanted.to_json())
            machine.make_folders(str(paths.NETNS), "/run/systemd/nspawn")
            machine.apply_settings(progress)
            assembly.checkout_folder(tools)
            run_tasks(assembly.tasks(wanted, tools), progress)
            paths.READY.touch()

    def stop(self, progress: Progress, *, foreign: bool = False) -> None:
        """Remove the lab: processes, namespaces, mounts, control groups, files; kernel settings are put back.

        Args:
            progress: Shows what is done.
            foreign: Also when it belongs to another checkout.

        Raises:
            LabError: Another checkout's lab runs, or something cannot be removed.
        """
        if not (paths.RUN.exists() or paths.DATA.exists() or paths.LAB.exists() or network.namespaces()):
            return
        machine.check_root()
        with machine.lock(progress.say):
            if not foreign:
                self._refuse_foreign()
            with progress.step("stop the lab"):
                self._remove()

    def status(self) -> list[Component]:
        """Return the state of every component of the lab."""
        spec = _running_spec()
        if spec is None:
            return []
        names = [assembly.MIRROR]
        for cluster in spec.cluster_specs:
            names += [cluster.process(name) for name in commands.COMPONENTS]
        names += [vm.process for vm in spec.vms]
        return [_component(name) for name in names]

    @cached_property
    def tools(self) -> Tools:
        """The programs and files of the tool cache, built where they are missing."""
        from lab.progress import Progress
        from lab.toolchain import ensure

        return ensure(Progress())

    def print_status(self) -> bool:
        """Print the components as a table.

        Returns:
            Whether a lab is there.
        """
        components = self.status()
        if not components:
            print("no lab is running")
            return False
        print(f"lab of {machine.owner()}" + ("" if paths.READY.exists() else " (its start did not finish)"))
        print(table(components))
        return True

    def shell(self, name: str, *argv: str) -> int:
        """Open a shell on a VM by ssh, or run a command there.

        Returns:
            Its exit status.
        """
        return subprocess.run([*self.vm_ssh(name), *argv], check=False).returncode

    def vm_power_off(self, name: str) -> None:
        """Pull a VM's plug."""
        vms.power_off(self.spec.vm(name))

    def vm_power_on(self, name: str) -> None:
        """Boot a VM again on what it has written, and wait until it is up."""
        vms.boot(self.spec.vm(name), Cancel())

    def vm_reset(self, name: str) -> None:
        """Give a VM a fresh file system under the same host key, and boot it."""
        vm = self.spec.vm(name)
        vms.power_off(vm)
        vms.discard(vm)
        vms.prepare(vm, self.tools.vm_root)
        vms.boot(vm, Cancel())

    def vm_root(self, name: str) -> Path:
        """Return a VM's file system as the machine sees it."""
        return vms.root(self.spec.vm(name))

    def vm_exec(
        self, name: str, argv: Sequence[str], *, stdin: str = "", timeout: float = 30
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a VM as root without ssh."""
        return vms.execute(self.spec.vm(name), list(argv), stdin, timeout)

    def vm_ssh(self, name: str, user: str = "root") -> list[str]:
        """Return the ssh command for a VM."""
        return sshkeys.command(self.spec.vm(name), user)

    def add_vm(self, vm: VmSpec) -> None:
        """Add a VM to the running lab and wait until it is up."""
        with machine.lock():
            spec = self._running()
            joined = spec.joined(LabSpec(vms=(vm,)))
            processes.write_json(paths.SPEC, joined.to_json())
            network.create([network.vm_leg(vm)])
            vms.prepare(vm, self.tools.vm_root)
            sshkeys.write_known_hosts(joined.vms)
            vms.boot(vm, Cancel())

    def remove_vm(self, name: str) -> None:
        """Take a VM out of the lab: switch it off and remove everything of it."""
        with machine.lock():
            spec = self._running()
            vm = spec.vm(name)
            _remove_vm(vm)
            left = LabSpec(vms=tuple(other for other in spec.vms if other != vm), clusters=spec.clusters)
            processes.write_json(paths.SPEC, left.to_json())
            sshkeys.write_known_hosts(left.vms)

    def _running(self) -> LabSpec:
        spec = _running_spec()
        if spec is None or machine.owner() != paths.CHECKOUT:
            raise LabError("no lab of this checkout is running; start it with `make up` or `python -m lab start`")
        return spec

    def _refuse_foreign(self) -> None:
        owner = machine.owner()
        running = [record.name for record in processes.records() if record.alive]
        if owner in (None, paths.CHECKOUT) or not running:
            return
        remedy = f"run `make down` in {owner}" if owner and owner.is_dir() else "run `python -m lab stop --foreign`"
        raise LabError(
            f"the lab of {owner} is running on this machine ({len(running)} processes); {remedy}, then try again"
        )

    def _must_start_anew(self) -> bool:
        spec = _running_spec()
        if spec is None or machine.owner() != paths.CHECKOUT:
            traces = (paths.DATA.exists(), paths.LAB.exists(), network.namespaces(), any(paths.RUN.iterdir()))
            return any(traces)
        if not paths.READY.exists() or not paths.LAB.is_dir():
            return True
        holders = [cluster.process(name) for cluster in spec.cluster_specs for name in _IRREPLACEABLE]
        return not all(processes.alive(name) for name in holders)

    def _remove(self) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(vms.power_off, (_running_spec() or LabSpec(vms=())).vms))
        processes.end(processes.records())
        left = processes.end_group()
        if left:
            raise LabError(f"processes {left} of the lab do not end; look at them, then stop the lab again")
        network.remove_all()
        for folder in (paths.DATA, paths.RUN):
            machine.unmount_below(folder)
        machine.restore_settings()
        machine.remove_folders()
        stuck = cgroups.remove()
        if stuck:
            raise LabError(f"control groups {', '.join(map(str, stuck))} cannot be removed")
        checkout = machine.owner() or paths.CHECKOUT
        for folder in (paths.DATA, checkout / paths.LAB.name, paths.RUN):
            machine.remove_tree(folder)


def table(components: Sequence[Component]) -> str:
    """Return components as aligned text."""
    rows = [("COMPONENT", "STATE", "PID", "LOG")]
    rows += [(c.name, c.state, str(c.pid or "-"), str(c.log)) for c in components]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _running_spec() -> LabSpec | None:
    try:
        return LabSpec.from_json(json.loads(paths.SPEC.read_text()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remove_vm(vm: VmSpec) -> None:
    vms.power_off(vm)
    vms.discard(vm)
    machine.remove_tree(vm.folder)
    paths.log(vm.process).unlink(missing_ok=True)


def _component(name: str) -> Component:
    record = processes.read(name)
    if record is None:
        return Component(name, "stopped", None, paths.log(name))
    if record.alive:
        return Component(name, "running", record.pid, paths.log(name))
    return Component(name, "dead", None, paths.log(name))
