"""The commands behind the Makefile: the lab at the bottom, the stack on it, and the VMs' registration at the end.

Everything here starts other programs; what they do is described where they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lab import cli, paths
from lab.errors import LabError
from lab.progress import Progress
from lab.runtime import Lab, LabSpec
from lab.stack import Stack
from lab.toolchain import BuildError, ensure

STACK = "dev"
STACK_FILE = paths.CHECKOUT / f"Pulumi.{STACK}.yaml"
DESTROY_SECONDS = 300
"""How long `down` waits for the stack to go in order; afterwards the lab goes anyway."""


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of programs that work on the lab: this Python and the lab's tools come first on PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath)])
    return {**base, **cli.environment(ensure(Progress()), path)}


def up(*args: str) -> int:
    """Start the lab where it is not running, bring the stack up, and show how far every VM has come."""
    begin = time.monotonic()
    Lab(LabSpec()).start(Progress())
    stack = _stack(*args)
    code = stack.run("up")
    print(flush=True)
    registered = _table(stack)
    print(f"\nmake up took {time.monotonic() - begin:.0f} s.", file=sys.stderr)
    return code or registered


def preview(*args: str) -> int:
    """Show what `up` would change."""
    Lab(LabSpec()).start(Progress())
    json = ("--json",) if "--json" in args else ()
    return _stack(*(arg for arg in args if arg not in json)).run("preview", *json)


def destroy() -> int:
    """Destroy the stack, and leave the lab running."""
    return _stack().run("destroy")


def status() -> int:
    """Show the lab's components and, read live, every VM's registration."""
    code = cli.main(["status"])
    if code:
        return code
    print(flush=True)
    return _table(_stack())


def outputs() -> int:
    """Print the stack's outputs as JSON and nothing else."""
    return _stack().run("outputs")


def manifests(*args: str) -> int:
    """Write every Kubernetes object of a stack into files; without a lab, but with Helm, be it the lab's."""
    return _command("manifests", *args, needs="helm")


def verify(*args: str) -> int:
    """Check the mesh of a stack that is up, be it the lab's or not."""
    return _command("verify", *args)


def _command(module: str, *args: str, needs: str = "") -> int:
    """Run one of the project's commands that need no lab; its tools stand in for what is absent.

    Args:
        module: Its module.
        args: Its arguments.
        needs: The program that it cannot do without, if any.
    """
    env = dict(os.environ) if not needs or shutil.which(needs) else environment(os.environ)
    return subprocess.run([sys.executable, "-m", module, *args], cwd=paths.CHECKOUT, env=env).returncode


def down() -> int:
    """Destroy the stack, then remove everything of the lab but the tool cache."""
    lab = Lab()
    code = 0
    if lab.running:
        code = _stack().run("destroy", seconds=DESTROY_SECONDS)
        if code:
            print("The stack was not destroyed in order (see above); it goes with the lab.", file=sys.stderr)
    lab.stop(Progress())
    return code


def shell(vm: str) -> int:
    """Open a shell on a VM."""
    return cli.main(["shell", vm])


def kubectl(*args: str) -> int:
    """Run kubectl on the lab's cluster."""
    return cli.main(["kubectl", *args])


COMMANDS: dict[str, Callable[..., int]] = {
    "up": up,
    "preview": preview,
    "status": status,
    "outputs": outputs,
    "manifests": manifests,
    "verify": verify,
    "destroy": destroy,
    "down": down,
    "shell": shell,
    "kubectl": kubectl,
}


def _stack(*args: str) -> Stack:
    """Return the lab's stack, by the committed stack file or by the one after `--stack-file`."""
    match args:
        case ():
            file = STACK_FILE
        case ("--stack-file", given):
            file = Path(given).absolute()
        case _:
            raise LabError(f"unknown arguments {' '.join(args)!r}. Fix: give --stack-file FILE, or nothing")
    if not file.is_file():
        raise LabError(f"--stack-file: no such file (got {str(file)!r})")
    return Stack(STACK, environment(os.environ), file)


def _table(stack: Stack) -> int:
    """Print the VMs' registration as it is now; 0 only if every VM has come as far as it can."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as last:
        last.write(stack.read_outputs())
        last.flush()
        argv = [
            sys.executable,
            "-m",
            "registration",
            "--stack-file",
            str(stack.source),
            "--table",
            "--outputs",
            last.name,
        ]
        return subprocess.run(argv, cwd=paths.CHECKOUT, env=environment(os.environ)).returncode


def main(argv: Sequence[str]) -> int:
    """Run one command.

    Args:
        argv: The command's name and its arguments.

    Returns:
        The exit code.
    """
    try:
        return COMMANDS[argv[0]](*argv[1:])
    except (LabError, BuildError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever reads, as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
