"""ansible-core at its fastest: pipelining, ControlPersist, a fork for each VM, no facts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.rivals.common import HERE, Rival
from lab.runtime import VmSpec


class Ansible(Rival):
    """A playbook over all VMs.

    Args:
        folder: For its files.
        environment: Of its processes.
        programs: Where it is installed.
    """

    name = "ansible-core"
    python = True

    def __init__(self, folder: Path, environment: Mapping[str, str], programs: Path) -> None:
        super().__init__(folder, environment)
        self._play = str(programs / "ansible-playbook")

    def run(self, vms: Sequence[VmSpec], changed: Sequence[VmSpec]) -> None:
        """Run the playbook; it finds out by itself what has changed."""
        self._playbook("join.yml", vms)

    def run_leave(self, vms: Sequence[VmSpec]) -> None:
        """See `Rival`."""
        self._playbook("leave.yml", vms)

    def _playbook(self, name: str, vms: Sequence[VmSpec]) -> None:
        hosts = {vm.name: {"ansible_host": vm.address} for vm in vms}
        common = {
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3.11",
            "work": str(self._work),
            "here": str(HERE),
            **{key: self._environment[key.upper()] for key in ("url", "sha256", "version")},
        }
        inventory = self._work / "inventory.json"
        inventory.write_text(json.dumps({"vms": {"hosts": hosts, "vars": common}}))
        arguments = f"-F {self._work}/ssh_config -o ControlMaster=auto -o ControlPersist=60s"
        self._environment |= {
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_SSH_ARGS": arguments,
            "ANSIBLE_FORKS": str(len(vms)),
            "ANSIBLE_HOME": str(self._work / "home"),
            "ANSIBLE_NOCOWS": "true",
        }
        self._call([self._play, "-i", str(inventory), str(HERE / name)])
