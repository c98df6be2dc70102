"""What the bench asks of the cluster: a place for rivals to register in, and the verdict on everybody's work."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench.measure import Usage
from lab import paths
from lab.runtime import VmSpec

WORKLOAD = "bench"
VERDICT_SECONDS = 120
API_SECONDS = 120
LABELS = {"app": WORKLOAD, "version": "v1"}
PORTS = {"http": 8080}
PROBE = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 2}
NETWORK = "net1"
QUIET_SECONDS = 10
"""How long is looked at what the API server answers when nobody works."""


@dataclass
class Mesh:
    """The lab's cluster by kubectl."""

    environment: Mapping[str, str]

    def kubectl(self, *args: str, stdin: str = "", used: Usage | None = None) -> str:
        """Run kubectl and return what it prints; for a tool, where its usage is given."""
        argv = ["kubectl", *args]
        env = dict(self.environment)
        if used:
            done = used.run(argv, stdin=stdin, env=env, cwd=paths.CHECKOUT, seconds=API_SECONDS)
        else:
            done = subprocess.run(argv, input=stdin, env=env, capture_output=True, text=True, timeout=API_SECONDS)
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(args)}: {done.stderr}")
        return done.stdout

    @contextmanager
    def counting(self, used: Usage) -> Iterator[None]:
        """Add to a tool's usage how many requests the API server answers meanwhile, more than when nobody works.

        Those that follow from the tool's, as istiod's own, are among them.
        """
        quiet = self._quiet
        begin, before = time.monotonic(), self._answered()
        used.aside += time.monotonic() - begin
        working = time.monotonic()
        yield
        end = time.monotonic()
        more = self._answered() - before - quiet * (end - working)
        used.requests = round(max(more, 0.0), 1)
        used.aside += time.monotonic() - end

    @cached_property
    def _quiet(self) -> float:
        """Requests a second."""
        before = self._answered()
        time.sleep(QUIET_SECONDS)
        return (self._answered() - before) / QUIET_SECONDS

    def _answered(self) -> float:
        return answered(self.kubectl("get", "--raw", "/metrics"))

    def gateway(self) -> str:
        """Return the address of the east-west gateway."""
        path = "jsonpath={.status.loadBalancer.ingress[0].ip}"
        return self.kubectl("-n", "istio-system", "get", "service", "istio-eastwestgateway", "-o", path)

    def prepare(self, namespace: str) -> None:
        """Make what must be there before VMs register: namespace, service account, WorkloadGroup."""
        documents = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": WORKLOAD, "namespace": namespace}},
            group(namespace, {}),
        ]
        for document in documents:
            self.kubectl("apply", "-f", "-", stdin=json.dumps(document))

    def entries(self, namespace: str) -> dict[str, Any]:
        """Return the WorkloadEntries of a namespace by address."""
        found = json.loads(self.kubectl("-n", namespace, "get", "workloadentries", "-o", "json"))["items"]
        return {entry["spec"]["address"]: entry for entry in found}

    def delete_entries(self, namespace: str, addresses: Iterable[str], used: Usage) -> None:
        """Delete the entries of addresses for a tool, so that VMs register anew."""
        names = [f"{WORKLOAD}-{address}-{NETWORK}" for address in addresses]
        if names:
            self.kubectl("-n", namespace, "delete", "workloadentries", "--ignore-not-found", *names, used=used)

    def await_healthy(self, namespace: str, vms: Iterable[VmSpec], labels: Mapping[str, str]) -> None:
        """Wait until all VMs are healthy in the mesh, and the named ones bear the label `tier` that they should.

        Raises:
            RuntimeError: Some are not in time.
        """
        wanted = {vm.address: labels.get(vm.name) for vm in vms}

        def right(entry: dict[str, Any] | None, tier: str | None) -> bool:
            return (
                entry is not None
                and any(c["type"] == "Healthy" and c["status"] == "True" for c in _conditions(entry))
                and (tier is None or entry["spec"].get("labels", {}).get("tier") == tier)
            )

        deadline = time.monotonic() + VERDICT_SECONDS
        while True:
            found = self.entries(namespace)
            missing = [address for address, tier in wanted.items() if not right(found.get(address), tier)]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"not healthy within {VERDICT_SECONDS} s: {', '.join(missing)}")
            time.sleep(0.1)

    def await_gone(self, namespace: str, vms: Iterable[VmSpec]) -> None:
        """Wait until no entry of the VMs is left.

        Raises:
            RuntimeError: Some are there still.
        """
        deadline = time.monotonic() + VERDICT_SECONDS
        while left := set(self.entries(namespace)) & {vm.address for vm in vms}:
            if time.monotonic() > deadline:
                raise RuntimeError(f"still registered after {VERDICT_SECONDS} s: {', '.join(sorted(left))}")
            time.sleep(0.1)


def answered(metrics: str) -> float:
    """Return how many requests an API server has answered, from its metrics."""
    lines = (line for line in metrics.splitlines() if line.startswith("apiserver_request_total{"))
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def group(namespace: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the WorkloadGroup, with labels over its own."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadGroup",
        "metadata": {"name": WORKLOAD, "namespace": namespace},
        "spec": {
            "metadata": {"labels": {**LABELS, **labels}},
            "template": {"serviceAccount": WORKLOAD, "network": NETWORK, "ports": PORTS},
            "probe": PROBE,
        },
    }


def _conditions(entry: Mapping[str, Any]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = entry.get("status", {}).get("conditions", [])
    return found
