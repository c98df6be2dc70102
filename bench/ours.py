"""This project, as its user runs it: an edited stack file, and `up` with the embedded engine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from bench.mesh import LABELS, PORTS, PROBE, WORKLOAD
from bench.packages import Package
from lab import paths
from lab.runtime import VmSpec

PREFIX = "istio-vm-mesh:"
RUN_SECONDS = 1800


class Ours:
    """The lab's stack, with a workload of the bench's own.

    Args:
        folder: Where the stack file goes.
        environment: Of the engine's process.
    """

    name = "istio-vm-mesh"
    namespace = "bench-ours"
    python = False

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._file = folder / "Pulumi.dev.yaml"
        raw = yaml.safe_load((paths.CHECKOUT / "Pulumi.dev.yaml").read_text())["config"]
        self._committed: dict[str, Any] = {key.removeprefix(PREFIX): value for key, value in raw.items()}
        self._config: dict[str, Any] = {}

    def prepare(self, package: Package) -> None:
        """Bring up all that must be there before VMs join: the mesh, and a workload without VMs."""
        config = deepcopy(self._committed)
        config["hosts"]["observe"] = False
        config["workloads"][WORKLOAD] = {
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
        self._config = config
        self._up()

    def join(self, vms: Sequence[VmSpec]) -> None:
        """Let fresh VMs join."""
        self._workload["vms"] = {vm.name: {"address": vm.address} for vm in vms}
        self._up()

    def join_with_broken(self, vms: Sequence[VmSpec], wrong_key: VmSpec) -> None:
        """Let VMs join of which some do not answer, and one answers with another key than the given one."""
        self._workload["vms"] = {vm.name: {"address": vm.address} for vm in vms}
        lines = [line.split(maxsplit=1) for line in paths.KNOWN_HOSTS.read_text().splitlines()]
        self._workload["vms"][wrong_key.name]["hostKey"] = next(key for at, key in lines if at != wrong_key.address)
        done = self._run()
        named = [vm.name for vm in vms if f'"vm":"{vm.name}"' in done.stdout or f"{vm.name}-configure" in done.stdout]
        if done.returncode == 0 or wrong_key.name not in named:
            raise RuntimeError(done.stdout + done.stderr)

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

    def clean(self) -> None:
        """Bring the committed stack up again."""
        self._config = self._committed
        self._up()

    @property
    def _workload(self) -> dict[str, Any]:
        workload: dict[str, Any] = self._config["workloads"][WORKLOAD]
        return workload

    def _up(self) -> None:
        done = self._run()
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)

    def _run(self) -> subprocess.CompletedProcess[str]:
        values = {PREFIX + key: value for key, value in self._config.items()}
        self._file.write_text(yaml.safe_dump({"config": values}))
        argv = [sys.executable, "-m", "lab.engine", "up", "--stack", "dev", "--config-file", str(self._file)]
        return subprocess.run(
            argv, cwd=paths.CHECKOUT, env=self._environment, capture_output=True, text=True, timeout=RUN_SECONDS
        )


def _sidecar(package: Package) -> dict[str, Any]:
    return {"amd64": {"deb": {"url": package.url, "sha256": package.sha256}}}
