"""This project, as its user runs it: an edited stack file, and the Pulumi CLI."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from bench.measure import OURS, Usage
from bench.mesh import LABELS, PORTS, PROBE, WORKLOAD, Mesh
from bench.packages import Package
from lab import paths
from lab.runtime import VmSpec
from lab.stack import Stack

PREFIX = "istio-vm-mesh:"
NAME = "dev"
"""The lab's stack: what it has made is taken over, not made beside it."""


class Ours:
    """The lab's stack, with a workload of the bench's own in place of its own ones.

    Args:
        folder: Where the stack file goes.
        environment: Of the CLI.
        known_hosts: The VMs' host keys, where they are not the lab's.
        seconds: Deadline of one run.
    """

    name = OURS
    namespace = "bench-ours"
    python = False

    def __init__(
        self, folder: Path, environment: Mapping[str, str], known_hosts: Path | None = None, seconds: float = 1800
    ) -> None:
        self.used = Usage()
        self._mesh = Mesh(environment)
        self._file = folder / "Pulumi.dev.yaml"
        self._stack = Stack(NAME, environment, self._file)
        self._seconds = seconds
        raw = yaml.safe_load((paths.CHECKOUT / "Pulumi.dev.yaml").read_text())["config"]
        self._committed: dict[str, Any] = {key.removeprefix(PREFIX): value for key, value in raw.items()}
        if known_hosts:
            self._committed["hosts"]["ssh"]["knownHostsFile"] = str(known_hosts)
        self._config: dict[str, Any] = {}

    def prepare(self, package: Package) -> None:
        """Bring up all that must be there before VMs join: the mesh, and a workload without VMs."""
        config = deepcopy(self._committed)
        config["hosts"]["observe"] = False
        workload = {
            "namespace": self.namespace,
            "serviceAccount": WORKLOAD,
            "labels": dict(LABELS),
            "ports": dict(PORTS),
            "probe": deepcopy(PROBE),
            # The rivals know no waves either.
            "rollout": {"maxUnavailable": "100%"},
            "sidecar": _sidecar(package),
            "vms": {},
        }
        config["workloads"] = {WORKLOAD: workload}
        self._config = config
        self._up()

    def declare(self, vms: Sequence[VmSpec]) -> None:
        """Write VMs into the stack file."""
        self._workload["vms"] = {vm.name: {"address": vm.address} for vm in vms}

    def join(self, vms: Sequence[VmSpec]) -> None:
        """Let fresh VMs join."""
        self.declare(vms)
        self._up()

    def join_with_broken(self, vms: Sequence[VmSpec], wrong_key: VmSpec) -> None:
        """Let VMs join of which some do not answer, and one answers with another key than the given one."""
        self.declare(vms)
        lines = [line.split(maxsplit=1) for line in paths.KNOWN_HOSTS.read_text().splitlines()]
        self._workload["vms"][wrong_key.name]["hostKey"] = next(key for at, key in lines if at != wrong_key.address)
        done = self._run("up")
        if done.returncode == 0 or f"{wrong_key.name}-configure" not in done.stdout + done.stderr:
            raise RuntimeError(done.stdout + done.stderr)

    def preview(self) -> None:
        """Show what a run would change."""
        self._well("preview")

    def again(self, vms: Sequence[VmSpec]) -> None:
        """Run once more, without a change."""
        self._up()

    def look_and_run_again(self, vms: Sequence[VmSpec]) -> None:
        """Run once more, with a look at every VM."""
        self._config["hosts"]["observe"] = True
        self._up()
        self._config["hosts"]["observe"] = False

    def relabel(self, vms: Sequence[VmSpec], changed: VmSpec, tier: str) -> None:
        """Give one VM another label."""
        self._workload["vms"][changed.name]["labels"] = {"tier": tier}
        self._up()

    def renew(self, vms: Sequence[VmSpec]) -> None:
        """Give every VM a new token."""
        self._config["renew"] = [vm.name for vm in vms]
        self._up()

    def upgrade(self, vms: Sequence[VmSpec], package: Package) -> None:
        """Give every VM another package."""
        self._workload["sidecar"] = _sidecar(package)
        self._up()

    def leave(self, vms: Sequence[VmSpec]) -> None:
        """Take all VMs out."""
        self._workload["vms"] = {}
        self._config.pop("renew", None)
        self._up()

    def destroy(self) -> None:
        """Take everything out, the VMs and the mesh."""
        self._well("destroy")

    def export(self) -> str:
        """Return the stack's state as JSON."""
        argv = ["pulumi", "stack", "export", "--stack", NAME]
        variables = self._stack.variables()
        return subprocess.run(argv, cwd=paths.PULUMI, env=variables, check=True, capture_output=True, text=True).stdout

    def clean(self) -> None:
        """Bring the committed stack up again."""
        self._config = self._committed
        self._up()

    @property
    def _workload(self) -> dict[str, Any]:
        workload: dict[str, Any] = self._config["workloads"][WORKLOAD]
        return workload

    def _up(self) -> None:
        self._well("up")

    def _well(self, verb: str) -> None:
        done = self._run(verb)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)

    def _run(self, verb: str) -> subprocess.CompletedProcess[str]:
        values = {PREFIX + key: value for key, value in self._config.items()}
        self._file.write_text(yaml.safe_dump({"config": values}))
        self._stack.prepare(verb)
        argv = ["timeout", "--kill-after=30", f"{self._seconds:.0f}", *self._stack.argv(verb)]
        with self._mesh.counting(self.used):
            env = self._stack.variables()
            return self.used.run(argv, seconds=self._seconds + 60, cwd=paths.CHECKOUT, env=env)


def _sidecar(package: Package) -> dict[str, Any]:
    return {"amd64": {"deb": {"url": package.url, "sha256": package.sha256}}}
