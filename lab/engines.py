"""Which engine runs the stack: the Pulumi CLI where it is installed, else the embedded one."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from lab import paths
from lab.errors import LabError

PROJECT = "istio-vm-mesh"
"""The project's name in Pulumi.yaml."""
RUN_SECONDS = 1800
"""Deadline of a run. Its steps have their own; this one is for an engine that waits for itself, as the CLI does
after a failed delete-before-replace under --continue-on-error (pulumi/pulumi#16373)."""
GRACE_SECONDS = 30
"""How long an engine that is asked to end may take to leave everything in order."""


class Engine(Protocol):
    """Runs one verb on the stack."""

    def argv(self, verb: str, *flags: str) -> list[str]:
        """Return the command line of `up`, `preview`, `destroy` or `outputs`."""

    def run(self, verb: str, *flags: str, seconds: float = RUN_SECONDS) -> int:
        """Run a verb with this process's output; return the exit code, not 0 after the deadline either."""

    def read_outputs(self) -> str:
        """Return the stack's outputs as JSON text; an empty object where it has none yet."""

    def holds(self) -> bool:
        """Whether there is anything of the stack that this engine made."""


@dataclass(frozen=True)
class Embedded:
    """The engine in `lab/engine`."""

    stack: str
    environment: Mapping[str, str]

    def argv(self, verb: str, *flags: str) -> list[str]:
        """See `Engine`."""
        return [sys.executable, "-m", "lab.engine", verb, "--stack", self.stack, *flags]

    def run(self, verb: str, *flags: str, seconds: float = RUN_SECONDS) -> int:
        """See `Engine`."""
        return _run(self.argv(verb, *flags), self.environment, seconds)

    def read_outputs(self) -> str:
        """See `Engine`."""
        return _read(self.argv("outputs"), self.environment)

    def holds(self) -> bool:
        """See `Engine`."""
        state = _json(paths.STATE / f"{self.stack}.json")
        return bool(state.get("resources")) or (paths.STATE / f"{self.stack}.journal").exists()


@dataclass(frozen=True)
class PulumiCli:
    """The user's own Pulumi CLI, on a file backend in the lab's folder.

    `pulumi stack select --create` writes the backend's salt into the stack file beside the Pulumi.yaml it finds. So it
    finds copies, and the committed file stays as it is.
    """

    stack: str
    environment: Mapping[str, str]

    UNATTENDED: ClassVar = ("--yes", "--skip-preview", "--non-interactive", "--continue-on-error")
    FLAGS: ClassVar = {"up": UNATTENDED, "destroy": UNATTENDED, "preview": ("--non-interactive", "--diff")}

    def argv(self, verb: str, *flags: str) -> list[str]:
        """See `Engine`."""
        if verb == "outputs":
            return ["pulumi", "stack", "output", "--json", "--stack", self.stack, *flags]
        return ["pulumi", verb, "--stack", self.stack, "--config-file", str(self.stack_file), *self.FLAGS[verb], *flags]

    def run(self, verb: str, *flags: str, seconds: float = RUN_SECONDS) -> int:
        """See `Engine`."""
        self.prepare()
        return _run(self.argv(verb, *flags), self.variables(), seconds)

    def read_outputs(self) -> str:
        """See `Engine`."""
        return _read(self.argv("outputs"), self.variables())

    def holds(self) -> bool:
        """See `Engine`."""
        return bool(self._latest("resources") or self._latest("pending_operations"))

    def _latest(self, part: str) -> Any:
        return (_json(self.state).get("checkpoint", {}).get("latest") or {}).get(part)

    @property
    def state(self) -> Path:
        """Where the file backend keeps the stack."""
        return paths.PULUMI / ".pulumi" / "stacks" / PROJECT / f"{self.stack}.json"

    @property
    def stack_file(self) -> Path:
        """The copy of the stack's configuration that runs read."""
        return paths.PULUMI / f"Pulumi.{self.stack}.yaml"

    def variables(self) -> dict[str, str]:
        """Return the environment of every `pulumi` command."""
        return {
            **self.environment,
            # The files beside the state with its metadata are not written at one stroke: a run that is killed may leave
            # one empty, and the state could not be read then.
            "PULUMI_BACKEND_URL": f"file://{paths.PULUMI}?metadata=skip",
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(paths.PULUMI / "passphrase"),
            "PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER": "true",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            # A run that was killed may have made objects that the state does not hold; the next one takes them over.
            "PULUMI_K8S_UPSERT_EXISTING_OBJECTS": "true",
        }

    def prepare(self, stack_file: Path | None = None) -> None:
        """Make the backend, its passphrase and the stack where they are missing, and copy the stack file.

        Args:
            stack_file: Stands in for the committed one.

        Raises:
            LabError: The CLI refuses.
        """
        paths.PULUMI.mkdir(mode=0o700, parents=True, exist_ok=True)
        passphrase = paths.PULUMI / "passphrase"
        if not passphrase.exists():
            passphrase.touch(mode=0o600)
            passphrase.write_text(secrets.token_hex(32))
        shutil.copy(paths.CHECKOUT / "Pulumi.yaml", paths.PULUMI)
        shutil.copy(stack_file or paths.CHECKOUT / self.stack_file.name, self.stack_file)
        if not self.state.exists():
            self._pulumi(["stack", "select", "--create"])
        self._recover()

    def _recover(self) -> None:
        """Make the stack usable after a run that was killed: it leaves a lock, and what it was creating on a list.

        The CLI warns of that list in every run to come, and asks about it only on a terminal.
        """
        locks = list(paths.PULUMI.glob(".pulumi/locks/**/*.json"))
        if not all(_is_stale(lock) for lock in locks):
            return
        if locks:
            self._pulumi(["cancel", "--yes"])
        if self._latest("pending_operations"):
            exported = json.loads(self._pulumi(["stack", "export"]))
            del exported["deployment"]["pending_operations"]
            self._pulumi(["stack", "import"], json.dumps(exported))

    def _pulumi(self, arguments: list[str], stdin: str = "") -> str:
        """Run the CLI where it finds the copies, and return what it prints."""
        argv = ["pulumi", "-C", str(paths.PULUMI), *arguments, "--stack", self.stack, "--non-interactive"]
        done = subprocess.run(argv, env=self.variables(), input=stdin, capture_output=True, text=True)
        if done.returncode:
            raise LabError(f"{' '.join(argv)}: {done.stderr.strip()}; ENGINE=embedded does without the CLI")
        return done.stdout


def choose(stack: str, environment: Mapping[str, str], *, wanted: str, has_cli: bool) -> Engine:
    """Return the engine to use: the one that the stack was brought up with, where there is anything of it yet.

    Args:
        stack: The stack's name.
        environment: Of the engine's process.
        wanted: `embedded`, `pulumi`, or empty for the CLI where it is there.
        has_cli: Whether `pulumi` is on PATH.

    Raises:
        LabError: `wanted` is something else, the CLI is missing, or the stack was brought up with the other engine.
    """
    engines: dict[str, Engine] = {"embedded": Embedded(stack, environment), "pulumi": PulumiCli(stack, environment)}
    if wanted not in ("", *engines):
        raise LabError(f"ENGINE: unknown engine (got {wanted!r}); embedded or pulumi would be right")
    holder = next((name for name, engine in engines.items() if engine.holds()), "")
    name = wanted or holder or ("pulumi" if has_cli else "embedded")
    if holder not in ("", name):
        raise LabError(
            f"ENGINE={name}: the stack was brought up with ENGINE={holder}; leave ENGINE out, or `make down` first"
        )
    if name == "pulumi" and not has_cli:
        raise LabError("ENGINE=pulumi: there is no pulumi on PATH; install the Pulumi CLI, or leave ENGINE out")
    return engines[name]


def _is_stale(lock: Path) -> bool:
    """Whether the run that wrote a lock of the file backend was killed: its process is gone, or is something else."""
    holder = _json(lock).get("pid")
    with contextlib.suppress(OSError):
        return "pulumi" not in Path(f"/proc/{holder}/comm").read_text()
    return holder is not None


def _json(file: Path) -> dict[str, Any]:
    """Return what a JSON file says; nothing where there is none."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(file.read_text())
        return found if isinstance(found, dict) else {}
    return {}


def _run(argv: list[str], environment: Mapping[str, str], seconds: float) -> int:
    process = subprocess.Popen(argv, cwd=paths.CHECKOUT, env=dict(environment))
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        print(f"{' '.join(argv)}: ended after {seconds:.0f} s; the next run continues from there", file=sys.stderr)
        for stop in (process.terminate, process.terminate, process.kill):  # the CLI ends at once when asked twice
            stop()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(GRACE_SECONDS) or 1
        return 1
    except KeyboardInterrupt:  # the terminal has sent it to the engine, too
        return process.wait() or 130


def _read(argv: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(argv, cwd=paths.CHECKOUT, env=dict(environment), capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else "{}"
