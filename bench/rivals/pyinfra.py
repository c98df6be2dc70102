"""pyinfra, with all VMs at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.rivals.common import HERE, Rival
from lab import paths
from lab.runtime import VmSpec


class Pyinfra(Rival):
    """A deploy over all VMs.

    Args:
        folder: For its files.
        environment: Of its processes.
        programs: Where it is installed.
    """

    name = "pyinfra"

    def __init__(self, folder: Path, environment: Mapping[str, str], programs: Path) -> None:
        super().__init__(folder, environment)
        self._program = str(programs / "pyinfra")

    def run(self, vms: Sequence[VmSpec], changed: Sequence[VmSpec]) -> None:
        """Run the deploy; it finds out by itself what has changed."""
        self._deploy("join_deploy.py", vms)

    def run_leave(self, vms: Sequence[VmSpec]) -> None:
        """See `Rival`."""
        self._deploy("leave_deploy.py", vms)

    def _deploy(self, name: str, vms: Sequence[VmSpec]) -> None:
        common = {
            "ssh_user": "root",
            "ssh_key": str(paths.SSH_KEY),
            "ssh_known_hosts_file": str(paths.KNOWN_HOSTS),
            "ssh_strict_host_key_checking": "yes",
            "work": str(self._work),
            **{key: self._environment[key.upper()] for key in ("url", "sha256", "version")},
        }
        hosts = [(vm.address, {**common, "vm": vm.name}) for vm in vms]
        inventory = self._work / "inventory.py"
        inventory.write_text(f"vms = {json.dumps(hosts)}\nvms = [tuple(host) for host in vms]\n")
        self._call([self._program, "-y", "--parallel", str(len(vms)), str(inventory), str(HERE / name)])
