"""The lab's control groups: every process that the lab starts is put into one, and its children stay there.

So the kernel itself keeps the list of what belongs to the lab, containers' shims and VMs' systemds included, whatever
happened to the processes that started them. Works with version 1, version 2 and both at once.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from lab import paths


def hierarchies(mounts: str) -> tuple[Path, ...]:
    """Return the mount points of all control group hierarchies.

    Args:
        mounts: Text of /proc/self/mounts.
    """
    rows = (line.split() for line in mounts.splitlines())
    return tuple(dict.fromkeys(Path(row[1]) for row in rows if len(row) > 2 and row[2] in ("cgroup", "cgroup2")))


def _roots() -> tuple[Path, ...]:
    return hierarchies(Path("/proc/self/mounts").read_text())


def create(name: str) -> tuple[Path, ...]:
    """Make the group `name` of the lab in every hierarchy.

    Returns:
        Its folder in each; a process joins by writing its id into `cgroup.procs`.
    """
    groups = []
    for root in _roots():
        parent = root
        for part in (paths.CGROUP, *name.split("/")):
            group = parent / part
            group.mkdir(exist_ok=True)
            for knob in ("cpuset.cpus", "cpuset.mems"):  # version 1 lets no process into a group before both are set
                if (group / knob).exists() and not (group / knob).read_text().strip():
                    value = (parent / knob).read_text().strip()
                    if value:
                        (group / knob).write_text(value)
            parent = group
        groups.append(parent)
    return tuple(groups)


def processes(name: str = "", *, everywhere: bool = True) -> set[int]:
    """Return the ids of all processes in the lab's group `name`, or in all its groups, and in the groups below.

    Args:
        name: The group.
        everywhere: Whether to look in all hierarchies, for a process that has left some, or in the first one only.
    """
    found = set()
    for folder in _folders(name, _roots() if everywhere else _roots()[:1]):
        with contextlib.suppress(OSError):
            found |= {int(line) for line in (folder / "cgroup.procs").read_text().split()}
    return found - {0}


def remove(name: str = "", seconds: float = 5.0) -> list[Path]:
    """Remove the lab's group `name`, or all its groups.

    Returns:
        What could not be removed within `seconds` because a process is still in it.
    """
    deadline = time.monotonic() + seconds
    while True:
        left = []
        for folder in sorted(_folders(name, _roots()), key=lambda path: len(path.parts), reverse=True):
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                left.append(folder)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def _folders(name: str, roots: Iterable[Path]) -> Iterator[Path]:
    for root in roots:
        top = root / paths.CGROUP / name if name else root / paths.CGROUP
        for folder, _, _ in os.walk(top):  # passes over what vanishes meanwhile
            yield Path(folder)
