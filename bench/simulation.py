"""Hundreds of VMs where no machine is big enough for them: their hosts are simulated, all else is real.

First a VM of the lab joins, is looked at and leaves, and writes down what it answers; then as many hosts as wanted
answer the same. So the plan, the engine, its plugins, ssh and the Kubernetes API work as they do for real VMs.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Self

from bench import recording
from bench.hosts import READY, Hosts, known_hosts
from bench.machines import Machines
from bench.measure import AGAIN, JOIN, PREVIEW, PREVIEW_JOIN, REMOVAL, SIMULATED, Results, Usage, of_state
from bench.mesh import Mesh
from bench.ours import Ours
from bench.packages import Package
from lab import machine, network, paths
from lab.runtime import VmSpec
from lab.sshkeys import ensure

RANGE = ipaddress.ip_network("10.78.0.0/22")
LEG = network.Leg(namespace="ivm-simulated", address="10.77.0.8")
AUTHORIZED_KEYS = Path("/etc/ssh/authorized_keys")
RUN_SECONDS = 5400
"""Deadline of one run of the stack."""


class Simulation:
    """The place of the simulated hosts: a namespace on the lab's switch that owns a whole range of addresses.

    Args:
        folder: For its files.
        environment: Of the CLI.
        mesh: The cluster.
        results: Where figures go.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], mesh: Mesh, results: Results) -> None:
        self._mesh, self._results = mesh, results
        self._folder = folder / "simulated"
        self._folder.mkdir()
        self._known_hosts = self._folder / "known_hosts"
        self._ours = Ours(self._folder, environment, known_hosts=self._known_hosts, seconds=RUN_SECONDS)
        self._recording: recording.Recording

    def __enter__(self) -> Self:
        network.create([LEG])
        machine.run([*network.inside(LEG.namespace or "", "ip", "route", "replace", "local", str(RANGE), "dev", "lo")])
        machine.run(["ip", "route", "replace", str(RANGE), "via", LEG.address])
        return self

    def __exit__(self, *_: object) -> None:
        machine.run(["ip", "route", "del", str(RANGE)])
        network.remove(LEG.namespace or "", LEG.port)

    def record(self, machines: Machines, ours: Ours, package: Package) -> None:
        """Let a VM of the lab join, stay, be looked at and leave, and keep what it answers."""
        vm = machines.all[0]
        root = machines.lab.vm_root(vm.name)
        machines.reset([vm], python=False)
        recording.install(root, AUTHORIZED_KEYS)
        ours.prepare(package)
        ours.join([vm])
        self._mesh.await_healthy(ours.namespace, [vm], {})
        entry = self._mesh.entries(ours.namespace)[vm.address]
        ours.again([vm])
        ours.look_and_run_again([vm])
        ours.leave([vm])
        self._recording = recording.read(root, vm.name, vm.address, entry)
        machines.reset([vm], python=False)

    def measure(self, size: int, package: Package) -> None:
        """Let simulated hosts join, stay and leave."""
        vms = simulated_vms(size)
        key = self._folder / "host_key"
        ensure(key, "simulated")
        hosts = Hosts(
            {vm.address: vm.name for vm in vms}, self._recording, str(key), str(paths.SSH_KEY.with_suffix(".pub"))
        )
        self._known_hosts.write_text(known_hosts(hosts))
        self._ours.prepare(package)
        healthy = partial(self._mesh.await_healthy, self._ours.namespace, vms, {})
        gone = partial(self._mesh.await_gone, self._ours.namespace, vms)

        def at_once() -> None:
            """Wait for nothing: a preview changes nothing."""

        with _served(hosts, self._folder / "hosts.log"):
            self._ours.declare(vms)
            if self._step(vms, PREVIEW_JOIN, self._ours.preview, at_once) and self._step(
                vms, JOIN, partial(self._ours.join, vms), healthy
            ):
                names = [vm.name for vm in vms]
                self._results.states.append(of_state(SIMULATED, names, 0, self._ours.export()))
                self._step(vms, AGAIN, partial(self._ours.again, vms), healthy)
                self._step(vms, PREVIEW, self._ours.preview, at_once)
            self._step(vms, REMOVAL, partial(self._ours.leave, vms), gone)

    def _step(
        self, vms: Sequence[VmSpec], operation: str, work: Callable[[], None], verdict: Callable[[], None]
    ) -> bool:
        self._ours.used = Usage()
        return self._results.measure(SIMULATED, len(vms), operation, 0, work, verdict, self._ours.used)


@contextmanager
def _served(hosts: Hosts, log: Path) -> Iterator[None]:
    """Run the simulated hosts meanwhile, in a process of their own: they are no part of what is measured.

    Raises:
        RuntimeError: They do not start.
    """
    argv = network.inside(LEG.namespace or "", sys.executable, "-m", "bench.hosts")
    with log.open("w") as errors:
        process = subprocess.Popen(argv, cwd=paths.CHECKOUT, stdin=PIPE, stdout=PIPE, stderr=errors, text=True)
    try:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(hosts.to_json()))
        process.stdin.close()
        if process.stdout.readline().strip() != READY:
            raise RuntimeError(f"the simulated hosts do not start: {log.read_text()[-2000:]}")
        yield
    finally:
        process.kill()
        process.wait()
        if said := log.read_text():
            print(f"the simulated hosts say: {said[-2000:]}", file=sys.stderr, flush=True)


def simulated_vms(count: int) -> list[VmSpec]:
    """Return so many VMs on the simulation's addresses.

    Raises:
        SystemExit: There are not so many addresses.
    """
    most = RANGE.num_addresses - 2
    if count > most:
        raise SystemExit(f"--simulated: at most {most} (got {count})")
    first = int(RANGE.network_address) + 1
    return [VmSpec(name=f"bench-{n + 1}", address=str(ipaddress.ip_address(first + n))) for n in range(count)]
