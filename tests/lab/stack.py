"""The stack as its user runs it: commands of the Pulumi CLI, with a stack file to edit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab import sshkeys
from lab.spec import VmSpec
from lab.stack import Stack as LabStack

PROJECT = Path(__file__).resolve().parents[2]
COMMITTED = PROJECT / "Pulumi.dev.yaml"
PREFIX = "istio-vm-mesh:"

Config = dict[str, Any]


@dataclass
class Stack:
    """The dev stack under test, with a stack file of its own beside the committed one."""

    file: Path
    environment: Mapping[str, str]
    config: Config = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.config = committed_config()
        self.on_lab = LabStack("dev", self.environment, self.file)
        self.environment = self.on_lab.variables()

    def argv(self, verb: str, *flags: str) -> list[str]:
        return self.on_lab.argv(verb, *flags)

    @contextmanager
    def started(self, verb: str, *flags: str) -> Iterator[subprocess.Popen[str]]:
        """A run that goes on meanwhile; one that has not ended is killed at the end, with all that it has started."""
        self.write()
        with subprocess.Popen(
            self.argv(verb, *flags),
            cwd=PROJECT,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as run:
            try:
                yield run
            finally:
                kill(run)

    def run(self, verb: str, *flags: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run to the end; standard output and error are kept apart."""
        self.write(verb)
        return subprocess.run(
            self.argv(verb, *flags),
            cwd=PROJECT,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def write(self, verb: str = "preview") -> None:
        self.file.write_text(yaml.safe_dump({"config": {PREFIX + key: value for key, value in self.config.items()}}))
        self.on_lab.prepare(verb)

    def up(self, timeout: float = 300) -> str:
        """Bring the stack up and return what was printed; a failure fails the test with the whole output."""
        done = self.run("up", timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def preview(self) -> dict[str, Any]:
        """The preview as JSON, in the shape of the CLI's."""
        done = self.run("preview", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        plan: dict[str, Any] = json.loads(done.stdout)
        return plan

    def outputs(self) -> dict[str, Any]:
        done = self.run("outputs")
        assert done.returncode == 0, done.stdout + done.stderr
        outputs: dict[str, Any] = json.loads(done.stdout)
        return outputs

    def states(self) -> dict[str, str]:
        """Every VM's state in the outputs."""
        return {name: vm["state"] for name, vm in self.outputs()["registration"]["vms"].items()}

    def live(self) -> dict[str, str]:
        """Every VM's state as `make status` reads it now."""
        done = self.module("registration", "--json", timeout=60)
        assert done.stdout, done.stderr
        return {name: vm["state"] for name, vm in json.loads(done.stdout)["vms"].items()}

    def module(self, name: str, *flags: str, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a module of the project on the stack file."""
        self.write()
        return subprocess.run(
            [sys.executable, "-m", name, "--stack-file", str(self.file), *flags],
            cwd=PROJECT,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def under_way(self) -> set[str]:
        """The resources that a run is making at this moment, as it notes down before."""
        return {operation["resource"]["urn"].rsplit("::", 1)[1] for operation in self._state("pending_operations")}

    def holds(self) -> set[str]:
        """The resources that the state holds."""
        return {resource["urn"].rsplit("::", 1)[1] for resource in self._state("resources")}

    def _state(self, part: str) -> list[Any]:
        """A part of the state, which another process may be writing."""
        with suppress(OSError, ValueError):
            latest = json.loads(self.on_lab.state.read_text())["checkpoint"]["latest"] or {}
            return latest.get(part) or []
        return []

    @property
    def billing(self) -> Config:
        """The workload that the dev stack declares."""
        workload: Config = self.config["workloads"]["billing"]
        return workload


@dataclass(frozen=True)
class Kubectl:
    """kubectl on the lab's cluster; a failure fails the test."""

    environment: Mapping[str, str]
    argv: tuple[str, ...] = ("kubectl", "--kubeconfig", str(PROJECT / ".lab/kubeconfig"))

    def __call__(self, *args: str, stdin: str | None = None) -> str:
        done = subprocess.run(
            [*self.argv, *args], input=stdin, env=self.environment, capture_output=True, text=True, timeout=150
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def kill(run: subprocess.Popen[str]) -> None:
    """As a lost terminal or the OOM killer would: the run and its children at once, without a chance to clean up."""
    with suppress(ProcessLookupError):
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def committed_config() -> Config:
    """The committed stack file's configuration, without the project's prefix."""
    raw = yaml.safe_load(COMMITTED.read_text())["config"]
    return {key.removeprefix(PREFIX): deepcopy(value) for key, value in raw.items()}


def changes(plan: Mapping[str, Any]) -> dict[str, str]:
    """What a preview would do, by resource name: everything that is not `same`."""
    return {step["urn"].rsplit("::", 1)[1]: step["op"] for step in plan["steps"] if step["op"] != "same"}


def reported(text: str, vm: str) -> str:
    """The one error that a VM's own program has printed; the CLI shows it when it comes, and again at the end."""
    lines = {line.strip() for line in text.splitlines() if f'"vm":"{vm}"' in line}
    assert len(lines) == 1, text
    return lines.pop()


def eventually(check: Callable[[], Any], *, seconds: float, what: str, every: float = 0.5, equals: Any = None) -> float:
    """Poll until `check` holds, or equals something; return the seconds it took, or fail the test."""
    begin = time.monotonic()
    while True:
        found = check()
        if found if equals is None else found == equals:
            return time.monotonic() - begin
        assert time.monotonic() - begin < seconds, f"{what}: not within {seconds} s (last seen: {found!r})"
        time.sleep(every)


def ssh_argv(address: str, command: Sequence[str], user: str = "root") -> list[str]:
    """An ssh command line to a lab VM, with its host key checked."""
    return [*sshkeys.command(VmSpec(name="vm", address=address), user), "--", *command]
