"""The two of Pulumi's plugins that no package registry has: a Python language host and the `command` provider.

They speak Pulumi's plugin protocols and decide nothing; the published ones may stand in their place.
"""

import shlex
from pathlib import Path

_PLUGINS = {"pulumi-language-python": "language", "pulumi-resource-command": "command"}


def write_plugins(folder: Path, python: str) -> None:
    """Write the plugins' executables.

    Args:
        folder: A folder that the CLI has on its PATH; made if absent.
        python: The interpreter that runs the plugins, and with them the user's program.
    """
    checkout = str(Path(__file__).parents[2])
    folder.mkdir(parents=True, exist_ok=True)
    for name, module in _PLUGINS.items():
        # PYTHONPATH would reach the commands that a plugin runs; -P keeps the working directory's modules out.
        code = f"import sys; sys.path.insert(0, {checkout!r}); from lab.pulumi.start import main; main({module!r})"
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {shlex.join([python, "-P", "-c", code])} "$@"\n')
        path.chmod(0o755)
