"""The stack on the lab, by the Pulumi CLI: with a file backend of its own and a copy of the stack file.

The CLI and the plugins are the toolchain's and the lab's; `$PULUMI` names a folder with others (or a `pulumi` in it).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, ClassVar

import recover
from components import take_over
from lab import paths
from lab.errors import LabError
from lab.progress import Progress
from lab.pulumi import write_plugins
from lab.toolchain import ensure
from lab.toolchain.parts import PULUMI_VERSION

PROJECT = "istio-vm-mesh"
"""The project's name in Pulumi.yaml."""
RUN_SECONDS = 1800
"""Deadline of a run. Its steps have their own; this one is for a CLI that waits for itself, as it does after a failed
delete-before-replace under --continue-on-error (pulumi/pulumi#16373)."""
GRACE_SECONDS = 30
"""How long the CLI may take to end, once asked to."""


def programs(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which the CLI and its plugins are found, `PATH` among them.

    Raises:
        LabError: `$PULUMI` names no CLI.
    """
    given = environment.get("PULUMI", "")
    if given:
        place = Path(given).expanduser().absolute()
        folder = place if place.is_dir() else place.parent
        if not os.access(folder / "pulumi", os.X_OK):
            raise LabError(f"PULUMI: no Pulumi CLI (got {given!r}). Fix: give a folder that holds pulumi, or its path")
        return {"PATH": f"{folder}:{environment['PATH']}"}
    return {
        "PATH": f"{_own_programs()}:{environment['PATH']}",
        "PULUMI_HOME": str(paths.PULUMI_HOME),
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
    }


@functools.cache
def _own_programs() -> Path:
    """Put the plugins where the CLI looks for them, and return the folder of the CLI."""
    folder = ensure(Progress()).pulumi.parent
    launchers = paths.PULUMI_HOME / "bin"
    write_plugins(launchers, sys.executable)
    for kind, name, version, program in (
        ("language", "python", PULUMI_VERSION, launchers),
        ("resource", "command", version_of("pulumi-command"), launchers),
        ("resource", "kubernetes", version_of("pulumi-kubernetes"), folder),
    ):
        plugin = paths.PULUMI_HOME / "plugins" / f"{kind}-{name}-v{version}" / f"pulumi-{kind}-{name}"
        plugin.parent.mkdir(parents=True, exist_ok=True)
        new = plugin.with_name(f"{plugin.name}.{os.getpid()}")
        new.symlink_to(program / plugin.name)
        new.replace(plugin)
    return folder


@dataclass(frozen=True)
class Stack:
    """One stack, and the CLI that runs it.

    `pulumi stack select --create` writes the backend's salt into the stack file beside the Pulumi.yaml it finds. So it
    finds copies, and the committed file stays as it is.
    """

    name: str
    environment: Mapping[str, str]
    """The lab's tools are on its PATH."""
    source: Path
    """The stack file; a copy of it is what the CLI reads."""

    UNATTENDED: ClassVar = ("--yes", "--skip-preview", "--non-interactive", "--continue-on-error")
    FLAGS: ClassVar = {
        "up": (*UNATTENDED, "--suppress-outputs"),  # `make outputs` prints them
        "destroy": UNATTENDED,
        "preview": ("--non-interactive", "--diff", "--show-full-output"),
    }

    def argv(self, verb: str, *flags: str) -> list[str]:
        """Return the command line of `up`, `preview`, `destroy` or `outputs`."""
        if verb == "outputs":
            return ["pulumi", "stack", "output", "--json", "--stack", self.name, *flags]
        return ["pulumi", verb, "--stack", self.name, "--config-file", str(self.file), *self.FLAGS[verb], *flags]

    def run(self, verb: str, *flags: str, seconds: float = RUN_SECONDS) -> int:
        """Run a verb with this process's output; return the exit code, not 0 after the deadline either."""
        self.prepare(verb)
        return self._run(verb, {}, seconds, *flags)

    def _run(self, verb: str, variables: Mapping[str, str], seconds: float, *flags: str) -> int:
        argv = self.argv(verb, *flags)
        process = subprocess.Popen(argv, cwd=paths.CHECKOUT, env={**self.variables(), **variables})
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            print(f"{' '.join(argv)}: ended after {seconds:.0f} s; the next run continues from there", file=sys.stderr)
            for stop in (process.terminate, process.terminate, process.kill):  # the CLI ends at once when asked twice
                stop()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(GRACE_SECONDS) or 1
            return 1
        except KeyboardInterrupt:  # the terminal has sent it to the CLI, too
            return process.wait() or 130

    def read_outputs(self) -> str:
        """Return the stack's outputs as JSON text; an empty object where it has none yet."""
        argv = self.argv("outputs")
        done = subprocess.run(argv, cwd=paths.CHECKOUT, env=self.variables(), capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else "{}"

    @property
    def state(self) -> Path:
        """Where the file backend keeps the stack."""
        return paths.PULUMI / ".pulumi" / "stacks" / PROJECT / f"{self.name}.json"

    @property
    def file(self) -> Path:
        """The copy of the stack's configuration that runs read."""
        return paths.PULUMI / f"Pulumi.{self.name}.yaml"

    def variables(self) -> dict[str, str]:
        """Return the environment of every `pulumi` command."""
        return {
            **self.environment,
            **programs(self.environment),
            # The files beside the state with its metadata are not written at one stroke: a run that is killed may leave
            # one empty, and the state could not be read then.
            "PULUMI_BACKEND_URL": f"file://{paths.PULUMI}?metadata=skip",
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(paths.PULUMI / "passphrase"),
            "PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER": "true",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        }

    def prepare(self, verb: str) -> None:
        """Make the backend, its passphrase and the stack where they are missing, and copy the stack file.

        A run that was killed is recovered from first, as `python -m recover` does for users.

        Args:
            verb: What is to be run. Before an `up`, another one takes over what the killed run has made.

        Raises:
            LabError: The CLI refuses.
        """
        paths.PULUMI.mkdir(parents=True, exist_ok=True)
        paths.PULUMI.chmod(0o700)  # what the CLI writes there, everybody might read
        passphrase = paths.PULUMI / "passphrase"
        if not passphrase.exists():
            passphrase.touch(mode=0o600)
            passphrase.write_text(secrets.token_hex(32))
        for source, copy in ((paths.CHECKOUT / "Pulumi.yaml", paths.PULUMI / "Pulumi.yaml"), (self.source, self.file)):
            copy.touch(mode=0o600)
            shutil.copyfile(source, copy)
        pulumi = ["pulumi", "-C", str(paths.PULUMI)]
        if not self.state.exists():
            argv = [*pulumi, "stack", "select", "--create", "--stack", self.name, "--non-interactive"]
            done = subprocess.run(argv, env=self.variables(), capture_output=True, text=True)
            if done.returncode:
                raise LabError(f"{' '.join(argv)}: {done.stderr.strip()}")
        killed = paths.PULUMI / "killed"  # until an `up` has taken over
        locks = list(paths.PULUMI.glob(".pulumi/locks/**/*.json"))
        if locks and all(map(_is_stale, locks)):
            killed.touch()
            try:
                recover.release(pulumi, self.name, self.variables())
            except recover.RecoveryError as error:
                raise LabError(str(error)) from error
        if verb == "up" and killed.exists() and not self._run("up", take_over.VARIABLES, RUN_SECONDS):
            killed.unlink()


def _is_stale(lock: Path) -> bool:
    """Whether the run that wrote a lock of the file backend was killed: its process is gone, or is something else."""
    try:
        holder: Any = json.loads(lock.read_text()).get("pid")
    except (OSError, ValueError):
        return False
    with contextlib.suppress(OSError):
        return "pulumi" not in Path(f"/proc/{holder}/cmdline").read_text()  # empty of one that nobody has waited for
    return holder is not None
