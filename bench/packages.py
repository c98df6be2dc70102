"""The two packages that VMs get: the lab's own, and one to upgrade to, which differs from it by its version."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab import paths
from lab.spec import MIRROR_ADDRESS

OWN = "istio-sidecar.deb"
NEXT = "istio-sidecar-bench.deb"


@dataclass(frozen=True)
class Package:
    """A package on the lab's mirror."""

    version: str
    url: str
    sha256: str


def packages(cache: Path) -> tuple[Package, Package]:
    """Return the lab's package and its successor, and put that on the mirror."""
    own = paths.MIRROR / OWN
    digest = _sha256(own)
    successor = cache / f"bench-{digest[:16]}" / NEXT
    if not successor.exists():
        tree = successor.with_name("tree")
        shutil.rmtree(tree, ignore_errors=True)
        tree.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg-deb", "--raw-extract", own, tree], check=True)
        control = tree / "DEBIAN/control"
        lines = control.read_text().splitlines()
        control.write_text("".join(f"{line}+bench\n" if line.startswith("Version:") else f"{line}\n" for line in lines))
        part = successor.with_suffix(".part")
        build = ["dpkg-deb", "--root-owner-group", "-Zzstd", "-z3", "--build", str(tree), str(part)]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(tree)
        part.rename(successor)
    shutil.copyfile(successor, paths.MIRROR / NEXT)
    return _package(own), _package(paths.MIRROR / NEXT)


def forget() -> None:
    """Take the successor off the mirror."""
    (paths.MIRROR / NEXT).unlink(missing_ok=True)


def _package(file: Path) -> Package:
    show = ["dpkg-deb", "--show", "--showformat", "${Version}", str(file)]
    version = subprocess.run(show, check=True, capture_output=True, text=True).stdout
    return Package(version, f"http://{MIRROR_ADDRESS}/{file.name}", _sha256(file))


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
