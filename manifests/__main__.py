"""`python -m manifests`: writes every Kubernetes object of a stack into a folder, one file each.

Needs the stack file, its charts and `helm`: no cluster, and it changes nothing but that folder. Run in the project's
folder, as Pulumi is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pulumi

from manifests.charts import ChartError, render
from manifests.files import ObjectsError, lay_out, write
from manifests.program import ask
from settings import SettingsError, from_stack_file

KUBERNETES = "1.34.0"
"""The version of Kubernetes that charts are told of: fixed, so that the files do not depend on Helm's own."""


def main(argv: list[str] | None = None) -> int:
    """Write the folder; 0 if that went well, 2 where the stack file is refused, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m manifests", description="Write every Kubernetes object of a stack, one file each."
    )
    parser.add_argument(
        "--stack-file", type=Path, default=Path("Pulumi.dev.yaml"), help="the stack's configuration (Pulumi.dev.yaml)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("rendered"),
        help="where to; files of an earlier run are brought up (rendered)",
    )
    parser.add_argument("--kube-version", default=KUBERNETES, help=f"Kubernetes that charts are for ({KUBERNETES})")
    options = parser.parse_args(argv)
    try:
        asked = ask(from_stack_file(options.stack_file, Path("Pulumi.yaml")))
        rendered = [obj for chart in asked.charts for obj in render(chart, options.kube_version)]
        files = lay_out([*asked.objects, *rendered])
        changes = write(options.folder, files)
    except (SettingsError, pulumi.RunError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (ChartError, ObjectsError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    for symbol, paths in (("~", changes.written), ("-", changes.removed)):
        sys.stdout.writelines(f" {symbol} {path}\n" for path in paths)
    total = f"{len(files)} objects in {options.folder}"
    sys.stdout.write(f"{total}: {len(changes.written)} files written, {len(changes.removed)} removed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
