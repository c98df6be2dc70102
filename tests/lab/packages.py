"""Other versions of the lab's sidecar package, on the lab's mirror."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab import paths

ORIGINAL = paths.MIRROR / "istio-sidecar.deb"


@contextlib.contextmanager
def another_version(version: str, *, fails_where: str = "") -> Iterator[dict[str, Any]]:
    """Serve another version for as long as the context lasts; yields it as a stack file names packages.

    Args:
        version: Its version.
        fails_where: Its Envoy ends at once on VMs that have this file.
    """
    package = paths.MIRROR / f"istio-sidecar-{version}.deb"
    with tempfile.TemporaryDirectory(dir=paths.DATA) as folder:
        tree = Path(folder) / "tree"
        _run("dpkg-deb", "--raw-extract", str(ORIGINAL.resolve()), str(tree))
        control = tree / "DEBIAN/control"
        lines = control.read_text().splitlines()
        changed = [f"Version: {version}" if line.startswith("Version:") else line for line in lines]
        control.write_text("\n".join(changed) + "\n")
        if fails_where:
            envoy, itself = tree / "usr/local/bin/envoy", tree / "usr/local/lib/istio-sidecar/envoy"
            itself.parent.mkdir(parents=True)
            envoy.rename(itself)
            envoy.write_text(
                f'#!/bin/sh\n[ ! -e {fails_where} ] || {{ echo "Envoy does not start here" >&2; exit 1; }}\n'
                'exec /usr/local/lib/istio-sidecar/envoy "$@"\n'
            )
            envoy.chmod(0o755)
        _run("dpkg-deb", "--root-owner-group", "-Zzstd", "-z1", "--build", str(tree), str(package))
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    try:
        yield {"amd64": {"deb": {"url": f"http://10.77.0.5/{package.name}", "sha256": digest}}}
    finally:
        package.unlink()


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
