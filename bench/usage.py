"""Runs a program and writes down what it and all that it starts use on this machine: CPU seconds, and peaks of memory.

A process of its own: what a program leaves behind (Pulumi's plugins have process groups of their own, and not all are
waited for) becomes its child, so the kernel counts that, too.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

SAMPLE_SECONDS = 0.5
GRACE_SECONDS = 5.0
"""How long what is left behind may take to end. What stays, as shared ssh connections do, counts as it is then."""
PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h."""
ROLES = {
    "pulumi-resource-kubernetes": "kubernetes provider",
    "program.py": "program",
    "pulumi-language-python-exec": "program",
}
"""What a process is, by a file in its command line."""


def role(argv: Sequence[str]) -> str:
    """Return what a process of Pulumi's is; the plugins of the lab are not told apart."""
    files = [Path(argument).name for argument in argv[:3]]
    if files[:1] == ["pulumi"]:
        return "engine"
    return next((ROLES[file] for file in files if file in ROLES), "other")


class Family:
    """All that this process has started, directly or not."""

    def __init__(self) -> None:
        self._members = {os.getpid()}
        self._strangers: set[int] = set()
        self.peaks: dict[str, int] = {}
        """Peak of resident memory in KiB, by role; of several processes the largest one's."""

    def look(self) -> None:
        """Take note of who is there, and of how much memory each has had at most."""
        there = sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        for pid in there:
            if pid not in self._members and pid not in self._strangers:
                ours = _parent(pid) in self._members
                (self._members if ours else self._strangers).add(pid)
        for pid in self._members.intersection(there) - {os.getpid()}:
            argv, peak = _memory(pid)
            if peak:
                self.peaks[role(argv)] = max(peak, self.peaks.get(role(argv), 0))

    def cpu(self) -> float:
        """Return the CPU seconds of all who have ended, and so far of those who have not."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return ended.ru_utime + ended.ru_stime + sum(_cpu(pid) for pid in self._members - {os.getpid()})


def run(argv: Sequence[str]) -> tuple[int, float, Family]:
    """Run a program to its end; return its exit code, how many seconds it took, and what it has started."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    family, begin = Family(), time.monotonic()
    program = os.posix_spawnp(argv[0], list(argv), dict(os.environ), setsigmask=())
    code, end = None, begin
    while code is None or time.monotonic() < end + GRACE_SECONDS:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == program:
            code, end = os.waitstatus_to_exitcode(status), time.monotonic()
        elif pid == 0:
            family.look()
            signal.sigtimedwait({signal.SIGCHLD}, SAMPLE_SECONDS)
    family.look()
    return code or 0, end - begin, family


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat after the command's name, which may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _cpu(pid: int) -> float:
    return sum(map(int, _stat(pid)[11:15])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> tuple[list[str], int]:
    try:
        argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (OSError, ValueError):
        return [], 0
    return argv, next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


if __name__ == "__main__":
    report, *command = sys.argv[1:]
    exit_code, seconds, started = run(command)
    Path(report).write_text(json.dumps({"seconds": seconds, "cpu": started.cpu(), "peaks": started.peaks}))
    sys.exit(exit_code if exit_code >= 0 else 128 - exit_code)
