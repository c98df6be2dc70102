"""Keeps every built part in a folder named by the hash of what it is made from.

A part is built in a temporary folder and then renamed, under a lock of its own: a killed build leaves
nothing half, a second run builds nothing, and two runs at once build each part once.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path

from lab.toolchain.commands import Cancelled, Crew, Shell

LOCK_POLL = 0.2
"""Seconds between two tries for a lock that another run holds."""


class Lane(Enum):
    """What a build is bound by; one build runs in a lane at a time."""

    CPU = "cpu"
    NETWORK = "network"
    DISK = "disk"


@dataclass(frozen=True)
class Job:
    """What a builder gets: a folder to fill, and a shell."""

    target: Path
    """The empty folder that becomes the part."""
    shell: Shell
    folder: Callable[[Part], Path]
    """Gives the folder of a part that this one needs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One cached part of the lab's tools."""

    name: str
    title: str
    """What people read while it is built."""
    inputs: tuple[str, ...]
    """Everything that decides the bytes, besides the parts that it needs."""
    build: Callable[[Job], None]
    lane: Lane
    needs: tuple[Part, ...] = ()
    remedy: str = "run the command again; if it fails again, read the log"

    @cached_property
    def key(self) -> str:
        """The hash of all inputs, those of needed parts included."""
        text = json.dumps([self.name, self.inputs, [part.key for part in self.needs]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def folder_name(self) -> str:
        """The name of its folder in the cache."""
        return f"{self.name}-{self.key}"


def sources(*paths: Path) -> tuple[str, ...]:
    """Return one input per file: its name and the hash of its bytes; a folder counts with all its files."""
    found = []
    for path in paths:
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        for file in files:
            if "__pycache__" not in file.parts:
                digest = hashlib.sha256(file.read_bytes()).hexdigest()
                found.append(f"{file.relative_to(path.parent)} {digest}")
    return tuple(found)


class Cache:
    """The tool cache.

    Args:
        root: Its folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._work = root / "tmp"
        self._locks = root / "lock"
        self.logs = root / "log"

    def folder(self, part: Part) -> Path:
        """Return where a part is, or will be."""
        return self.root / part.folder_name

    def has(self, part: Part) -> bool:
        """Tell whether a part is built."""
        return self.folder(part).is_dir()

    def make(self, part: Part, crew: Crew) -> None:
        """Build a part, unless it is there once its lock is held."""
        for folder in (self._work, self._locks, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        with self._lock(part.folder_name, crew):
            for left_over in self._work.glob(f"{part.folder_name}.*"):
                shutil.rmtree(left_over, ignore_errors=True)
            if self.has(part):
                return
            target = Path(tempfile.mkdtemp(prefix=f"{part.folder_name}.", dir=self._work))
            target.chmod(0o755)
            log = self.logs / f"{part.folder_name}.log"
            log.unlink(missing_ok=True)
            try:
                part.build(Job(target, Shell(log, crew, part.remedy), self.folder))
                target.rename(self.folder(part))
            finally:
                shutil.rmtree(target, ignore_errors=True)

    def prune(self, keep: Iterable[Part]) -> list[str]:
        """Remove the folders of older versions of the given parts that nothing uses, and what their builds left.

        Returns:
            The names of the removed folders.
        """
        parts = list(keep)
        current = {part.folder_name for part in parts}
        names = "|".join(re.escape(part.name) for part in parts)
        ours = re.compile(rf"({names})-[0-9a-f]{{16}}")
        used = paths_in_use()
        removed = []
        for left_over in sorted(self._work.glob("*-*.*")):
            name = left_over.name.partition(".")[0]
            if ours.fullmatch(name) and name not in current:
                with self._lock(name, Crew()):
                    shutil.rmtree(left_over, ignore_errors=True)
        for folder in sorted(self.root.glob("*-*")):
            if not ours.fullmatch(folder.name) or folder.name in current:
                continue
            if any(path == str(folder) or path.startswith(f"{folder}/") for path in used):
                continue
            with self._lock(folder.name, Crew()):
                shutil.rmtree(folder)
            (self.logs / f"{folder.name}.log").unlink(missing_ok=True)
            removed.append(folder.name)
        return removed

    @contextmanager
    def _lock(self, name: str, crew: Crew) -> Iterator[None]:
        """Hold a lock; the lock's file stays, since others may wait for it."""
        self._locks.mkdir(parents=True, exist_ok=True)
        with (self._locks / name).open("w") as file:
            while not crew.cancelled:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(LOCK_POLL)
            else:
                raise Cancelled("cancelled")
            yield


def paths_in_use() -> set[str]:
    """Return the paths that mounts and running programs of this machine refer to."""
    paths = set(re.split(r"[\s,=:]", Path("/proc/mounts").read_text()))
    for program in Path("/proc").glob("[0-9]*/exe"):
        try:
            paths.add(str(program.readlink()))
        except OSError:  # It ended, or it is a kernel thread.
            continue
    return paths


def cache_root() -> Path:
    """Return the tool cache's folder: `$ISTIO_VM_MESH_CACHE`, else the user's cache folder."""
    if place := os.environ.get("ISTIO_VM_MESH_CACHE"):
        return Path(place).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "istio-vm-mesh"
