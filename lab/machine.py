"""What the lab does to the machine itself, and how it takes that back: kernel settings, folders, mounts, ownership."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab import paths, processes
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.progress import Progress


@dataclass(frozen=True)
class Setting:
    """A kernel setting of the machine that the lab needs."""

    name: str
    value: int
    reason: str
    at_least: bool = False
    """Whether a higher value does as well."""


SETTINGS = (
    Setting("fs.inotify.max_user_instances", 8192, "every VM's systemd takes some", at_least=True),
    Setting("fs.inotify.max_user_watches", 131072, "every VM's systemd takes some", at_least=True),
    Setting("vm.overcommit_memory", 1, "the kubelet sets it"),
    Setting("vm.panic_on_oom", 0, "the kubelet sets it"),
    Setting("kernel.panic", 10, "the kubelet sets it"),
    Setting("kernel.panic_on_oops", 1, "the kubelet sets it"),
    Setting("kernel.keys.root_maxkeys", 1000000, "the kubelet sets it"),
    Setting("kernel.keys.root_maxbytes", 25000000, "the kubelet sets it"),
)
_PROGRAMS = ("ip", "nsenter", "unshare", "systemd-nspawn", "iptables", "ssh", "mount", "umount")


@contextlib.contextmanager
def lock(say: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the machine's lab for one command at a time; `say` is told when that means waiting.

    The lock is on the run folder itself, so that nothing is left of it; one that was removed meanwhile is made again.
    """
    handle = _lock(say or (lambda _: None))
    try:
        yield
    finally:
        os.close(handle)


def _lock(say: Callable[[str], None]) -> int:
    while True:
        paths.RUN.mkdir(parents=True, exist_ok=True)
        handle = os.open(paths.RUN, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("lab: another command is at work on it; waiting")
            fcntl.flock(handle, fcntl.LOCK_EX)
        if paths.RUN.is_dir() and os.fstat(handle).st_ino == paths.RUN.stat().st_ino:
            return handle
        os.close(handle)


def owner() -> Path | None:
    """Return the checkout that the machine's lab belongs to."""
    try:
        return Path(json.loads(paths.OWNER.read_text())["checkout"])
    except (OSError, ValueError, KeyError):
        return None


def claim() -> None:
    """Write down that the machine's lab is this checkout's."""
    processes.write_json(paths.OWNER, {"checkout": str(paths.CHECKOUT)})


def check_root() -> None:
    """Make sure that root runs this.

    Raises:
        LabError: Somebody else does.
    """
    if os.geteuid() != 0:
        raise LabError("the lab makes network namespaces and mounts, so it must be run by root")


def check_programs() -> None:
    """Make sure that the programs are there which every Debian has or the toolchain installs.

    Raises:
        LabError: Some are not; all of them at once.
    """
    missing = [name for name in _PROGRAMS if not shutil.which(name)]
    if missing:
        raise LabError(f"missing on this machine or on PATH: {', '.join(missing)}")


def pending(values: Mapping[str, int]) -> list[Setting]:
    """Return the settings that have to change, given the present values; those this kernel lacks are not among them."""
    return [s for s in SETTINGS if s.name in values and not _satisfied(s, values[s.name])]


def _satisfied(setting: Setting, value: int) -> bool:
    return value >= setting.value if setting.at_least else value == setting.value


def apply_settings(progress: Progress) -> None:
    """Change the kernel settings that the lab needs, each announced; what they were is written down first."""
    present = {s.name: value for s in SETTINGS if (value := _read(s.name)) is not None}
    changes = pending(present)
    before = {**{s.name: present[s.name] for s in changes}, **_recorded()}
    if before:
        processes.write_json(paths.SYSCTLS, before)
    for setting in changes:
        was = present[setting.name]
        progress.say(f"machine: {setting.name} = {setting.value} (was {was}; {setting.reason}; stop puts it back)")
        _file(setting.name).write_text(f"{setting.value}\n")


def restore_settings() -> None:
    """Put the kernel settings back to what they were, except those that somebody has changed since."""
    before = _recorded()
    for setting in SETTINGS:
        if setting.name in before and _read(setting.name) == setting.value:
            _file(setting.name).write_text(f"{before[setting.name]}\n")
    paths.SYSCTLS.unlink(missing_ok=True)


def _recorded() -> dict[str, int]:
    try:
        return {str(name): int(value) for name, value in json.loads(paths.SYSCTLS.read_text()).items()}
    except (OSError, ValueError):
        return {}


def _file(name: str) -> Path:
    return Path("/proc/sys") / name.replace(".", "/")


def _read(name: str) -> int | None:
    try:
        return int(_file(name).read_text())
    except (OSError, ValueError):
        return None


def make_folders(*folders: str) -> None:
    """Make folders outside the lab's own, and write down which were not there."""
    made = recorded_folders()
    for folder in folders:
        missing = [path for path in (Path(folder), *Path(folder).parents) if not path.exists()]
        made += [str(path) for path in missing if str(path) not in made]
        processes.write_json(paths.RESIDUE, made)
        Path(folder).mkdir(parents=True, exist_ok=True)


def recorded_folders() -> list[str]:
    """Return the folders that the lab made outside its own, deepest first."""
    try:
        return sorted(map(str, json.loads(paths.RESIDUE.read_text())), key=lambda path: -path.count("/"))
    except (OSError, ValueError):
        return []


def remove_folders() -> None:
    """Remove those folders, as far as nobody else has put something there."""
    for folder in recorded_folders():
        path = Path(folder)
        if path.is_dir() and not any(path.iterdir()):
            unmount_below(path)
            path.rmdir()


def mount_points(mountinfo: str) -> list[Path]:
    """Return all mount points from the text of /proc/self/mountinfo, in order of mounting."""
    fields = (line.split()[4] for line in mountinfo.splitlines() if line)
    return [Path(field.encode().decode("unicode_escape") if "\\" in field else field) for field in fields]


def mounts_below(folder: Path) -> list[Path]:
    """Return the mount points at and below a folder, the last mounted first."""
    found = mount_points(Path("/proc/self/mountinfo").read_text())
    return [path for path in reversed(found) if path.is_relative_to(folder)]


def unmount_below(folder: Path) -> None:
    """Unmount everything at and below a folder."""
    for path in mounts_below(folder):
        run(["umount", str(path)])


def remove_tree(folder: Path) -> None:
    """Remove a folder with everything in it; never reaches through a mount.

    Raises:
        LabError: Something is still mounted there.
    """
    mounts = mounts_below(folder)
    if mounts:
        raise LabError(f"{folder} is not removed: {mounts[0]} is still mounted")
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


def run(argv: list[str], stdin: str = "", timeout: float = 60) -> str:
    """Run a short command.

    Raises:
        LabError: It failed; the text is the command and its own message.
    """
    command = " ".join(argv)
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise LabError(f"{command}: not done within {timeout:.0f} s") from None
    if done.returncode:
        raise LabError(f"{command}: {done.stderr.strip() or f'exit status {done.returncode}'}")
    return done.stdout
