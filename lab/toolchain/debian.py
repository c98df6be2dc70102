"""Gets Debian packages: plain tools are installed, and what would start a service is only unpacked into the cache.

Debian's point releases move, so the versions have a floor, and what was used is written beside the files.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from lab.progress import Progress
from lab.toolchain.cache import Job, Lane, Part
from lab.toolchain.commands import BuildError, Shell

SUITE = "bookworm"
REMEDY = "check that Debian's packages can be reached (`apt-get update`)"

# Clients and libraries; none of them starts a service.
HOST_PACKAGES = (
    "ca-certificates",
    "conntrack",
    "debootstrap",
    "iproute2",
    "iptables",
    "libseccomp2",
    "openssh-client",
    "procps",
    "systemd-container",
    "wrk",
)

# Name and least version; the `~` lets in repacked sources, such as `1.6.20~ds1`.
# Installed, some of these would start a service of the machine's own.
UNPACKED = {
    "containerd": "1.6.20~",
    "containernetworking-plugins": "1.1.1~",
    "etcd-server": "3.4.23~",
    "runc": "1.1.5~",
}

# rpm and what it needs beyond the VMs' root, for the tests of rpm packages; its Perl scripts are of no use there.
RPM = {
    "debugedit": "1:5.0",
    "libarchive13": "3.6",
    "libdw1": "0.188",
    "libelf1": "0.188",
    "libfsverity0": "1.5",
    "libgomp1": "12",
    "liblua5.3-0": "5.3",
    "libmagic1": "1:5.44",
    "libpopt0": "1.19",
    "libreadline8": "8.2",
    "librpm9": "4.18",
    "librpmbuild9": "4.18",
    "librpmio9": "4.18",
    "librpmsign9": "4.18",
    "libsqlite3-0": "3.40",
    "rpm": "4.18",
    "rpm-common": "4.18",
    "rpm2cpio": "4.18",
}

LISTS = Path("/var/lib/apt/lists")
LISTS_AGE = 86400.0
APT = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=300")
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}

_lists_lock = threading.Lock()


def missing_packages(wanted: tuple[str, ...] = HOST_PACKAGES) -> list[str]:
    """Return the wanted packages that are not installed."""
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *wanted]
    answer = subprocess.run(query, capture_output=True, text=True, check=False, timeout=60)
    installed = {line.split()[0] for line in answer.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in wanted if name not in installed]


def install_missing(progress: Progress, shell: Shell) -> None:
    """Install the plain tools that are missing on this machine, and say which before.

    Raises:
        BuildError: apt failed, or this is not root.
    """
    missing = missing_packages()
    if not missing:
        return
    if os.geteuid() != 0:
        raise BuildError(f"Debian packages are missing: {' '.join(missing)}; run as root, or install them with apt-get")
    progress.say(f"Installing Debian packages on this machine: {' '.join(missing)}")
    with progress.step("install Debian packages"):
        refresh_lists(shell)
        shell.run(*APT, "install", "--yes", "--no-install-recommends", *missing, env=QUIET)


def refresh_lists(shell: Shell) -> None:
    """Update apt's package lists where they are absent or older than a day."""
    with _lists_lock:
        partial = LISTS / "partial"
        known = any(LISTS.glob("*_Packages*"))
        if not known or not partial.exists() or time.time() - partial.stat().st_mtime > LISTS_AGE:
            shell.run(*APT, "update", env=QUIET)


def mirror(shell: Shell) -> str:
    """Return the address of the Debian archive that this machine's apt uses."""
    targets = shell.run("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages")
    for line in targets.splitlines():
        codename, _, address = line.partition(" ")
        if codename == SUITE:
            return address
    raise BuildError(f"apt has no source for Debian {SUITE}; add one to /etc/apt/sources.list.d")


def unpack(job: Job, wanted: Mapping[str, str]) -> None:
    """Download the packages and unpack them into the part's folder, with a list of what they are."""
    refresh_lists(job.shell)
    downloads = job.target / "packages"
    downloads.mkdir()
    # As root: apt's own user cannot write into the cache.
    job.shell.run(*APT, "-o", "APT::Sandbox::User=root", "download", *wanted, cwd=downloads, env=QUIET)
    used = []
    for file in sorted(downloads.glob("*.deb")):
        name, version = job.shell.run("dpkg-deb", "--show", "--showformat", "${Package} ${Version}", file).split()
        try:
            job.shell.run("dpkg", "--compare-versions", version, "ge", wanted[name])
        except BuildError as error:
            raise BuildError(f"Debian offers {name} {version}, the lab needs {wanted[name]} or later") from error
        job.shell.run("dpkg-deb", "--extract", file, job.target)
        used.append(f"{name} {version}\n")
        file.unlink()
    downloads.rmdir()
    (job.target / "packages.txt").write_text("".join(used))


def part() -> Part:
    """Return the part that holds the unpacked packages, as `usr/bin`, `usr/sbin`, `usr/lib/cni`."""
    return _unpacked("debian", f"unpack {', '.join(UNPACKED)}", UNPACKED)


def rpm_part() -> Part:
    """Return the part that holds rpm, which the lab itself does not need."""
    return _unpacked("debian-rpm", "unpack rpm for its tests", RPM)


def _unpacked(name: str, title: str, packages: Mapping[str, str]) -> Part:
    return Part(
        name=name,
        title=title,
        inputs=(SUITE, *(f"{package} >= {version}" for package, version in packages.items())),
        build=lambda job: unpack(job, packages),
        lane=Lane.NETWORK,
        remedy=REMEDY,
    )
