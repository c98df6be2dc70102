"""What every rival needs: istioctl's files for each VM, and the programs of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.measure import Usage
from bench.mesh import Mesh, group
from bench.packages import Package
from lab import paths
from lab.runtime import VmSpec

HERE = Path(__file__).parent
REQUIREMENTS = HERE.parent / "requirements.txt"
RUN_SECONDS = 1800
AT_ONCE = str(os.cpu_count() or 1)
"""How many istioctl run at the same time: they are bound by CPU."""


class Rival:
    """A rival, on VMs of a namespace of its own.

    Args:
        folder: For its files.
        environment: Of its processes.
    """

    name = ""
    python = False
    """Whether it needs Python on the VMs."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._work = folder / self.namespace
        self._mesh = Mesh(environment)
        self._environment = dict(environment)
        self.used = Usage()

    @property
    def namespace(self) -> str:
        """Where its VMs register."""
        return f"bench-{self.name.replace(' ', '-')}"

    def prepare(self, package: Package) -> None:
        """Make what must be there before VMs join."""
        self._mesh.prepare(self.namespace)
        (self._work / "groups").mkdir(parents=True, exist_ok=True)
        (self._work / "groups/all.json").write_text(json.dumps(group(self.namespace, {})))
        options = {
            "IdentityFile": paths.SSH_KEY,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": paths.KNOWN_HOSTS,
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
        }
        (self._work / "ssh_config").write_text("".join(f'{key} "{value}"\n' for key, value in options.items()))
        self._environment |= {"WORK": str(self._work), "HERE": str(HERE), "GATEWAY": self._mesh.gateway()}
        self._take(package)

    def relabel(self, vms: Sequence[VmSpec], changed: VmSpec, tier: str) -> None:
        """Give one VM another label: it has to register anew."""
        labelled = json.dumps(group(self.namespace, {"tier": tier}))
        (self._work / f"groups/{changed.name}.json").write_text(labelled)
        self.configure([changed])
        self._mesh.delete_entries(self.namespace, [changed.address], self.used)
        self.run(vms, [changed])

    def renew(self, vms: Sequence[VmSpec]) -> None:
        """Give every VM a new token."""
        self.configure(vms)
        self.run(vms, vms)

    def upgrade(self, vms: Sequence[VmSpec], package: Package) -> None:
        """Give every VM another package."""
        self._take(package)
        self.run(vms, vms)

    def join(self, vms: Sequence[VmSpec]) -> None:
        """Let fresh VMs join."""
        self.configure(vms)
        self.run(vms, vms)

    def again(self, vms: Sequence[VmSpec]) -> None:
        """Run once more, without a change."""
        self.run(vms, [])

    def leave(self, vms: Sequence[VmSpec]) -> None:
        """Take all VMs out."""
        self.run_leave(vms)
        self._mesh.delete_entries(self.namespace, [vm.address for vm in vms], self.used)
        for labelled in self._work.glob("groups/bench-*.json"):
            labelled.unlink()

    def clean(self) -> None:
        """Remove what `prepare` has made."""
        self._mesh.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--wait=false")

    def configure(self, vms: Sequence[VmSpec]) -> None:
        """Let istioctl write the VMs' files."""
        self._each(HERE / "configure.sh", vms, AT_ONCE)

    def run(self, vms: Sequence[VmSpec], changed: Sequence[VmSpec]) -> None:
        """Bring all VMs to where they should be; the rival may know which of them are changed."""
        raise NotImplementedError

    def run_leave(self, vms: Sequence[VmSpec]) -> None:
        """Take everything off the VMs."""
        raise NotImplementedError

    def _take(self, package: Package) -> None:
        self._environment |= {"URL": package.url, "SHA256": package.sha256, "VERSION": package.version}

    def _each(self, script: Path, vms: Sequence[VmSpec], at_once: str) -> None:
        """Run a script for each VM, as many at once as said."""
        lines = "".join(f"{vm.name} {vm.address}\n" for vm in vms)
        self._call(["xargs", "-P", at_once, "-L", "1", str(script)], lines)

    def _call(self, argv: Sequence[str], stdin: str = "") -> None:
        done = self.used.run(argv, stdin=stdin, env=self._environment, cwd=self._work, seconds=RUN_SECONDS)
        if done.returncode:
            raise RuntimeError(f"{argv[0]}: {done.stdout[-4000:]}{done.stderr[-4000:]}")


def programs(cache: Path) -> Path:
    """Return the folder of the rivals' programs, installed where they are missing."""
    digest = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    venv = cache / f"bench-venv-{digest}"
    if not (venv / ".ready").exists():
        subprocess.run(["uv", "venv", "-q", "--clear", "--python", "3.11", str(venv)], check=True)
        install = ["uv", "pip", "install", "-q", "--require-hashes", "--python", str(venv / "bin/python")]
        subprocess.run([*install, "-r", str(REQUIREMENTS)], check=True)
        (venv / ".ready").touch()
    return venv / "bin"
