"""Processes of the lab: started detached, recorded with their id and start time, ended by that record only.

A process id alone may have been given to somebody else since; with the start time of the kernel's own table and the
boot it belongs to, it cannot. Signals go through a pidfd that is opened before the start time is compared.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import cgroups, paths

_JOIN = 'for group in $0; do echo $$ >"$group/cgroup.procs" || exit 125; done; exec "$@"'
"""Shell text that puts the process into its control groups before anything else of it runs."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One process of the lab, as it was started."""

    name: str
    pid: int
    started: int
    """Start time in clock ticks since the boot, from /proc/PID/stat."""
    boot: str
    log: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cgroup: str

    @property
    def alive(self) -> bool:
        """Whether that very process still runs."""
        return self.boot == boot_id() and start_time(self.pid) == self.started


def boot_id() -> str:
    """Return the kernel's name for the present boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def parse_stat(text: str) -> tuple[str, int]:
    """Return state letter and start time from the text of /proc/PID/stat.

    The command's name, in brackets, may itself hold brackets and spaces.
    """
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def start_time(pid: int) -> int | None:
    """Return the start time of a running process; None if there is none or only its exit status is left."""
    try:
        state, started = parse_stat(Path(f"/proc/{pid}/stat").read_text())
    except (OSError, IndexError, ValueError):
        return None
    return None if state in "ZX" else started


def spawn(name: str, argv: Sequence[str], *, env: Mapping[str, str], cgroup: str | None = None) -> Record:
    """Start a detached process with its own log and control group, and record it.

    Args:
        name: Record, log and (unless given) control group name.
        argv: Absolute command and arguments.
        env: The whole environment.
        cgroup: Control group below the lab's.
    """
    group = cgroup or name
    groups = " ".join(str(path) for path in cgroups.create(group))
    log = paths.log(name)
    log.parent.mkdir(parents=True, exist_ok=True)
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    # What the caller left open, such as a lock or a pipe of somebody who waits for its end, would stay open for good.
    others = [int(fd.name) for fd in Path("/proc/self/fd").iterdir() if int(fd.name) > 2]
    pid = os.posix_spawn(
        "/bin/sh",
        ["/bin/sh", "-c", _JOIN, groups, *argv],
        dict(env),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o640),
            (os.POSIX_SPAWN_DUP2, 1, 2),
            *((os.POSIX_SPAWN_CLOSE, fd) for fd in others),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGPIPE, signal.SIGINT),
    )
    record = Record(
        name=name,
        pid=pid,
        started=start_time(pid) or 0,
        boot=boot_id(),
        log=str(log),
        argv=tuple(argv),
        env=dict(env),
        cgroup=group,
    )
    write_json(paths.PROCESSES / f"{name}.json", asdict(record))
    return record


def records() -> list[Record]:
    """Return all records, in order of their names."""
    found = (read(path.stem) for path in sorted(paths.PROCESSES.glob("*.json")))
    return [record for record in found if record]


def read(name: str) -> Record | None:
    """Return the record of that name, if there is a whole one."""
    try:
        data = json.loads((paths.PROCESSES / f"{name}.json").read_text())
        return Record(**{**data, "argv": tuple(data["argv"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def alive(name: str) -> bool:
    """Return whether the recorded process of that name runs."""
    record = read(name)
    return record is not None and record.alive


def forget(name: str) -> None:
    """Remove a record."""
    (paths.PROCESSES / f"{name}.json").unlink(missing_ok=True)


def end(found: Iterable[Record], *, sig: signal.Signals = signal.SIGKILL, seconds: float = 10.0) -> list[int]:
    """End recorded processes and wait for them.

    Returns:
        The ids of those that still run after `seconds`.
    """
    boot = boot_id()
    return end_pids({record.pid: record.started for record in found if record.boot == boot}, sig=sig, seconds=seconds)


def end_pids(started: Mapping[int, int], *, sig: signal.Signals = signal.SIGKILL, seconds: float = 10.0) -> list[int]:
    """End processes given by id and start time, and wait for them; another process under the same id is left alone.

    Returns:
        The ids of those that still run after `seconds`.
    """
    handles = {}
    for pid, start in started.items():
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(pid)
            if start_time(pid) == start:
                handles[handle] = pid
                signal.pidfd_send_signal(handle, sig)
            else:
                os.close(handle)
    deadline = time.monotonic() + seconds
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    waiting = set(handles)
    while waiting and (left := deadline - time.monotonic()) > 0:
        for handle, _ in poll.poll(left * 1000):
            poll.unregister(handle)
            waiting.discard(handle)
    for handle, pid in handles.items():
        os.close(handle)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return sorted(handles[handle] for handle in waiting)


def wait_end(record: Record, seconds: float) -> bool:
    """Wait for a process to end by itself.

    Returns:
        Whether it has.
    """
    deadline = time.monotonic() + seconds
    while record.alive and time.monotonic() < deadline:
        time.sleep(0.02)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(record.pid, os.WNOHANG)
    return not record.alive


def end_group(cgroup: str = "", seconds: float = 10.0) -> list[int]:
    """End every process of a control group of the lab, or of all its groups, this process excepted.

    Returns:
        The ids of those that still run after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:  # a process may fork while the list is read
        found = {pid: start_time(pid) for pid in cgroups.processes(cgroup) - {os.getpid()}}
        running = {pid: started for pid, started in found.items() if started is not None}
        if not running or time.monotonic() > deadline:
            return sorted(running)
        end_pids(running, seconds=max(0.1, deadline - time.monotonic()))


def last_lines(log: str, count: int = 5) -> str:
    """Return the end of a log."""
    with contextlib.suppress(OSError):
        return "\n".join(Path(log).read_text(errors="replace").splitlines()[-count:])
    return ""


def write_json(path: Path, data: object) -> None:
    """Write data in one step, so that nobody ever reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps(data, indent=1))
    part.replace(path)
