"""`python -m registration`: every declared VM's registration, read now. Exit code 0 only if all are complete.

Run in the project's folder, as Pulumi is: relative paths in the stack file lead from there, wherever that file is.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.client import Client
from observation import observe
from registration.reader import live_sources, read
from registration.stack import declared_vms, last_evidence, with_found
from registration.table import summary, table
from settings import SettingsError, from_stack_file


def main(argv: list[str] | None = None) -> int:
    """Read the stack file, the last outputs if given, and the mesh; print what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m registration", description="Every declared VM's registration, read now."
    )
    parser.add_argument("--stack-file", type=Path, required=True, help="the stack's configuration, Pulumi.<stack>.yaml")
    parser.add_argument("--outputs", type=Path, help="the stack's last outputs as JSON, for what only the hosts know")
    parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="wait so long for VMs set up just now")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the report as the stack's output has it")
    form.add_argument("--table", action="store_true", help="print a table (default)")
    options = parser.parse_args(argv)
    try:
        settings = from_stack_file(options.stack_file, Path("Pulumi.yaml"))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    vms, found = declared_vms(settings), observe(settings)
    evidence = with_found(last_evidence(_outputs(options.outputs), vms), found)
    client = Client.connect(settings.cluster.kubeconfig, settings.cluster.context)
    report, error_text = read(list(vms.values()), evidence, live_sources(client), options.wait)
    if options.json:
        sys.stdout.write(json.dumps(report, indent=2, sort_keys=True) + "\n")
    else:
        sys.stdout.write(f"{table(report, datetime.now(UTC))}\n{summary(report)}\n")
    for name, vm in found.items():
        if vm.unknown:
            sys.stderr.write(f"vm {name} was not looked at: {vm.unknown}\n")
        for line in vm.record if vm.drift else ():
            sys.stderr.write(f"vm {name}: {line}\n")
    if error_text:
        sys.stderr.write(f"error: {error_text}\n")
        return 1
    return 0 if all(vm["complete"] for vm in report["vms"].values()) else 1


def _outputs(path: Path | None) -> dict[str, Any]:
    """The outputs, or nothing where the file is absent or not finished."""
    try:
        found = json.loads(path.read_text()) if path else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    sys.exit(main())
