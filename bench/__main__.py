"""`make bench`: starts the VMs on the lab, lets everybody work on them in turn, and writes down what it took."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench import figures, packages
from bench.machines import Machines
from bench.measure import (
    AGAIN,
    ALL_OUT,
    BROKEN,
    JOIN,
    LOOK,
    OPERATIONS,
    RELABEL,
    REMOVAL,
    RENEWAL,
    UPGRADE,
    Results,
    Usage,
    of_state,
)
from bench.mesh import Mesh
from bench.ours import Ours
from bench.packages import Package
from bench.rivals.ansible import Ansible
from bench.rivals.common import Rival, programs
from bench.rivals.pyinfra import Pyinfra
from bench.rivals.shell import ParallelShell, Shell
from bench.simulation import Simulation
from lab import paths
from lab.run import environment
from lab.runtime import VmSpec

DEAD = 3
LEAST_BROKEN = 10
"""With fewer VMs, four broken ones say nothing."""


class Bench:
    """One run of the bench."""

    def __init__(self, options: argparse.Namespace, cache: Path, folder: Path) -> None:
        self._options, self._folder = options, folder
        self._machines = Machines(max([*options.sizes, 1]), cache)
        self._machines.start()
        self._environment = environment(os.environ)
        self._mesh = Mesh(self._environment)
        self._packages = packages.packages(cache)
        self._ours = Ours(folder, self._environment)
        known: dict[str, Ours | Rival] = {
            self._ours.name: self._ours,
            Shell.name: Shell(folder, self._environment),
            ParallelShell.name: ParallelShell(folder, self._environment),
        }
        if {Ansible.name, Pyinfra.name} & set(options.tools):
            installed = programs(cache)
            known[Ansible.name] = Ansible(folder, self._environment, installed)
            known[Pyinfra.name] = Pyinfra(folder, self._environment, installed)
        self._tools = [known[name] for name in options.tools]
        self.results = Results(options.json, _about(), add=options.add)

    def run(self) -> None:
        """Measure everything, everybody in turn, so that the machine's moods concern all alike."""
        for size in self._options.sizes:
            for repeat in range(self._options.repeat):
                for tool in self._tools if size else [self._ours]:
                    try:
                        self._round(tool, self._machines.all[:size], repeat)
                    except RuntimeError as error:
                        self.results.fail(tool.name, size, "what lies between", repeat, error)
                    figures.write(self._options.figures, self.results)
        if self._options.simulated:
            with Simulation(self._folder, self._environment, self._mesh, self.results) as simulated:
                simulated.record(self._machines, self._ours, self._packages[0])
                for size in self._options.simulated:
                    simulated.measure(size, self._packages[0])
                    figures.write(self._options.figures, self.results)

    def clean(self) -> None:
        """Leave the lab as it was."""
        for tool in self._tools:
            tool.clean()
        packages.forget()
        self._machines.remove()

    def _round(self, tool: Ours | Rival, vms: Sequence[VmSpec], repeat: int) -> None:
        """Let one tool take the same VMs from fresh to gone."""
        now, later = self._packages
        self._machines.reset(vms, python=tool.python)
        self._ours.prepare(now)
        if isinstance(tool, Rival):
            tool.prepare(now)
        tier = f"bench-{repeat}"

        def healthy() -> None:
            self._mesh.await_healthy(tool.namespace, vms, {})

        steps: dict[str, tuple[Any, Any]] = {
            JOIN: (partial(tool.join, vms), healthy),
            AGAIN: (partial(tool.again, vms), healthy),
            RELABEL: (
                lambda: tool.relabel(vms, vms[-1], tier),
                lambda: self._mesh.await_healthy(tool.namespace, vms, {vms[-1].name: tier}),
            ),
            RENEWAL: (partial(tool.renew, vms), healthy),
            UPGRADE: (partial(tool.upgrade, vms, later), partial(self._upgraded, tool.namespace, vms, later)),
            REMOVAL: (partial(tool.leave, vms), partial(self._mesh.await_gone, tool.namespace, vms)),
        }
        if isinstance(tool, Ours):
            steps[LOOK] = partial(tool.look_and_run_again, vms), healthy
        for operation in [name for name in OPERATIONS if name in steps and vms]:
            if operation not in (JOIN, *self._options.operations):
                continue
            if not self._measure(tool, vms, operation, repeat, *steps[operation]):
                break  # what follows would measure something else
            if operation == JOIN and isinstance(tool, Ours):
                self.results.states.append(of_state(tool.name, [vm.name for vm in vms], repeat, tool.export()))
        joined = not vms or REMOVAL not in self._options.operations
        if isinstance(tool, Ours) and ALL_OUT in self._options.operations:
            self._all_out(vms, repeat, joined=joined)
        elif joined:
            tool.leave(vms)
        if isinstance(tool, Ours) and len(vms) >= LEAST_BROKEN and BROKEN in self._options.operations:
            self._broken(tool, vms, repeat)

    def _all_out(self, vms: Sequence[VmSpec], repeat: int, *, joined: bool) -> None:
        """Take out the mesh, with the VMs that have joined, or join for that."""
        if not joined:
            self._machines.reset(vms, python=False)
            self._ours.prepare(self._packages[0])
            self._ours.join(vms)
        gone = partial(self._mesh.await_gone, self._ours.namespace, vms)
        self._measure(self._ours, vms, ALL_OUT, repeat, self._ours.destroy, gone)

    def _broken(self, tool: Ours, vms: Sequence[VmSpec], repeat: int) -> None:
        """Let the VMs join of which three are dead, and one has another host key than the stack says."""
        dead, wrong_key, well = vms[:DEAD], vms[DEAD], vms[DEAD + 1 :]
        self._machines.reset(vms, python=False)
        tool.prepare(self._packages[0])
        self._machines.power(dead, on=False)
        work = partial(tool.join_with_broken, vms, wrong_key)
        verdict = partial(self._mesh.await_healthy, tool.namespace, well, {})
        try:
            self._measure(tool, vms, BROKEN, repeat, work, verdict)
        finally:
            self._machines.power(dead, on=True)
        tool.leave(vms)

    def _measure(
        self, tool: Ours | Rival, vms: Sequence[VmSpec], operation: str, repeat: int, work: Any, verdict: Any
    ) -> bool:
        tool.used = Usage()
        return self.results.measure(tool.name, len(vms), operation, repeat, work, verdict, tool.used)

    def _upgraded(self, namespace: str, vms: Sequence[VmSpec], package: Package) -> None:
        self._mesh.await_healthy(namespace, vms, {})
        others = {vm.name for vm in vms if self._machines.package_version(vm) != package.version}
        if others:
            raise RuntimeError(f"not upgraded: {', '.join(sorted(others))}")


def _about() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GB, Linux {platform.release().split('-')[0]}"
    return {"taken": time.strftime("%Y-%m-%d"), "machine": machine}


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    names = [Ours.name, Shell.name, ParallelShell.name, Ansible.name, Pyinfra.name]
    found = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    found.add_argument(
        "--sizes", type=_numbers, default=[0, 1, 2, 10, 50], help="numbers of VMs (0,1,2,10,50; 0: the mesh alone)"
    )
    found.add_argument("--repeat", type=int, default=5, help="how often everything is done (5)")
    found.add_argument("--tools", type=_names, default=names, help=f"who ({','.join(names)})")
    found.add_argument("--operations", type=_operations, default=list(OPERATIONS), help="what, beside joining (all)")
    found.add_argument("--simulated", type=_numbers, default=[], help="numbers of simulated hosts, as 200,500,1000")
    found.add_argument("--json", type=Path, default=paths.CHECKOUT / "docs/bench.json", help="where results go")
    found.add_argument("--figures", type=Path, default=paths.CHECKOUT / "docs/figures.md", help="where the table goes")
    found.add_argument("--add", action="store_true", help="add to the results that are there, for a bench in portions")
    found.add_argument("--leave", action="store_true", help="leave the lab as the bench had it, for the next portion")
    return found


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def _names(text: str) -> list[str]:
    return text.split(",")


def _operations(text: str) -> list[str]:
    if unknown := sorted(set(_names(text)) - set(OPERATIONS)):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)} (there are: {', '.join(OPERATIONS)})")
    return _names(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; 0 if everything succeeded."""
    options = parser().parse_args(argv)
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "istio-vm-mesh"
    cache = Path(os.environ.get("ISTIO_VM_MESH_CACHE") or default)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(options, cache, Path(folder))
        try:
            bench.run()
        finally:
            if not options.leave:
                bench.clean()
    return 1 if bench.results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
