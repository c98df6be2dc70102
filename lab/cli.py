"""The lab's command line: `python -m lab start|stop|status|shell|kubectl|env`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict

from lab import machine, paths
from lab.errors import LabError
from lab.progress import Progress
from lab.runtime import Lab
from lab.spec import LabSpec
from lab.toolchain import BuildError, Tools, ensure


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    root = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = root.add_subparsers(dest="command", required=True, metavar="COMMAND")
    start = commands.add_parser("start", help="start the lab, or what of it does not run")
    start.add_argument("--vms", type=int, default=None, help="number of VMs, billing-1 on 10.77.0.21 and so on (2)")
    start.add_argument("--clusters", type=int, default=1, help="number of clusters (1)")
    stop = commands.add_parser("stop", help="remove everything of the lab but the tool cache")
    stop.add_argument("--foreign", action="store_true", help="also where it belongs to another checkout")
    status = commands.add_parser("status", help="list every component with its state and log")
    status.add_argument("--json", action="store_true", help="as JSON")
    shell = commands.add_parser("shell", help="open a shell on a VM by ssh, or run a command on it")
    shell.add_argument("vm")
    shell.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND")
    commands.add_parser("kubectl", help="run kubectl on the lab's cluster: all that follows is kubectl's")
    commands.add_parser("env", help="print what a shell has to evaluate to use the lab's cluster and tools")
    return root


def environment(tools: Tools, path: str) -> dict[str, str]:
    """Return the variables by which other programs use the lab."""
    added = [str(entry) for entry in tools.path_entries]
    rest = [entry for entry in path.split(":") if entry and entry not in added]
    return {"KUBECONFIG": str(paths.KUBECONFIG), "PATH": ":".join(added + rest)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    known, rest = (argv[:1], argv[1:]) if argv[:1] == ["kubectl"] else (argv, [])  # its options are not ours
    arguments = parser().parse_args(known)
    arguments.rest = rest
    progress = Progress()
    try:
        return _run(arguments, progress)
    except (LabError, BuildError, OSError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; the next start or stop continues from here", file=sys.stderr)
        return 130


def _run(arguments: argparse.Namespace, progress: Progress) -> int:
    lab = Lab()
    match arguments.command:
        case "start":
            spec = LabSpec(clusters=arguments.clusters)
            if arguments.vms is not None:
                spec = LabSpec.of_size(arguments.vms, arguments.clusters)
            lab = Lab(spec)
            lab.start(progress)
            vms, clusters = len(lab.spec.vms), lab.spec.clusters
            progress.say(f"lab: running (VMs: {vms}, clusters: {clusters}); logs in {paths.LOG_LINK}/")
        case "stop":
            lab.stop(progress, foreign=arguments.foreign)
        case "status":
            return _status(lab, as_json=arguments.json)
        case "shell":
            _require(lab)
            return lab.shell(arguments.vm, *arguments.argv)
        case "kubectl":
            _require(lab)
            tools = ensure(progress)
            os.execve(tools.kubectl, ["kubectl", *arguments.rest], {**os.environ, **_environment(tools)})
        case "env":
            for name, value in _environment(ensure(progress)).items():
                print(f"export {name}={shlex.quote(value)}")
    return 0


def _status(lab: Lab, *, as_json: bool) -> int:
    if as_json:
        owner = machine.owner()
        rows = [{**asdict(component), "log": str(component.log)} for component in lab.status()]
        print(json.dumps({"owner": str(owner) if owner else None, "components": rows}, indent=1))
    else:
        lab.print_status()
    components = lab.status()
    return 0 if components and all(component.state == "running" for component in components) else 3


def _require(lab: Lab) -> None:
    if not lab.status():
        raise LabError("no lab is running; start it with `make up` or `python -m lab start`")


def _environment(tools: Tools) -> dict[str, str]:
    return environment(tools, os.environ.get("PATH", ""))
