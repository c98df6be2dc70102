"""The VMs that everybody works on in turn: fresh ones for each join, with Python where a rival needs it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.progress import Progress
from lab.runtime import Lab, LabSpec, VmSpec

FIRST_ADDRESS = 130
MOST = 50
AT_ONCE = 8
"""How many VMs are made anew at the same time."""
PYTHON = ("libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal")
"""What Ansible's modules need on a Debian 12 that has no Python."""


class Machines:
    """The bench's VMs on the running lab.

    Args:
        count: How many.
        cache: A folder that outlives the bench.
    """

    def __init__(self, count: int, cache: Path) -> None:
        if count > MOST:
            raise SystemExit(f"--sizes: at most {MOST} (got {count})")
        self.lab = Lab()
        self.all = [VmSpec(name=f"bench-{n}", address=f"10.77.0.{FIRST_ADDRESS + n - 1}") for n in range(1, count + 1)]
        self._cache = cache

    def start(self) -> None:
        """Start the lab where it is not running, and the VMs that are not there yet."""
        if not (self.lab.status() and set(self.all) <= set(self.lab.spec.vms)):
            Lab(LabSpec().joined(LabSpec(vms=tuple(self.all)))).start(Progress())

    def reset(self, vms: Sequence[VmSpec], *, python: bool) -> None:
        """Give VMs fresh file systems."""
        self._each(self.lab.vm_reset, vms)
        if python:
            found = self._python()
            self._each(lambda name: _copy(found / "usr", self.lab.vm_root(name) / "usr"), vms)

    def power(self, vms: Sequence[VmSpec], *, on: bool) -> None:
        """Pull the VMs' plugs, or put them back."""
        self._each(self.lab.vm_power_on if on else self.lab.vm_power_off, vms)

    def package_version(self, vm: VmSpec) -> str:
        """Return the version of the sidecar's package on a VM; empty where there is none."""
        query = ["dpkg-query", "-W", "-f", "${Version}", "istio-sidecar"]
        return self.lab.vm_exec(vm.name, query).stdout

    def remove(self) -> None:
        """Take the VMs out of the lab."""
        for vm in self.all:
            if vm in self.lab.spec.vms:
                self.lab.remove_vm(vm.name)

    def _each(self, work: Callable[[str], None], vms: Iterable[VmSpec]) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(work, [vm.name for vm in vms]))

    def _python(self) -> Path:
        """Return a folder with Debian's Python, compiled as its packages do when they are installed."""
        folder = self._cache / "bench-python"
        if not (folder / "usr").exists():
            work = folder.with_suffix(".part")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            # As root: apt's own user cannot write into the cache.
            download = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *PYTHON]
            subprocess.run(download, cwd=work, check=True, stdout=subprocess.DEVNULL)
            for package in sorted(work.glob("*.deb")):
                subprocess.run(["dpkg-deb", "--extract", package, work], check=True)
                package.unlink()
            vm = self.all[0].name
            _copy(work / "usr", self.lab.vm_root(vm) / "usr")
            self.lab.vm_exec(vm, ["python3.11", "-m", "compileall", "-q", "/usr/lib/python3.11"], timeout=120)
            _copy(self.lab.vm_root(vm) / "usr/lib/python3.11", work / "usr/lib/python3.11")
            work.rename(folder)
        return folder


def _copy(source: Path, target: Path) -> None:
    """Copy a folder into one that may be there."""
    subprocess.run(["cp", "--archive", "--no-target-directory", source, target], check=True)
