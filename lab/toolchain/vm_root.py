"""Builds the root file system that all VMs share, read only, below an overlay of their own.

It is a minimal Debian with systemd, sshd and the lab's application. What must differ between machines (host name,
host keys, machine id, authorized keys) is left out for the lab to write into each overlay.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from lab.toolchain import debian
from lab.toolchain.cache import Job, Lane, Part, sources

FILES = Path(__file__).parent / "vm"

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "openssh-server",
    "iproute2",
    "iptables",
    "ca-certificates",
    "sudo",
    "curl",
    "dbus",
    "hostname",
    "procps",
)

ENABLED = ("ssh.service", "ssh-host-key.service", "hello.service")

# Periodic work and consoles, which a lab machine needs neither at boot nor later.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "systemd-timesyncd.service",
)

# User name and the arguments of useradd; `operator` is a group of Debian's base system.
USERS = {
    "deploy": ("--user-group",),
    "operator": ("--no-user-group", "--gid", "users"),
}

# Paths of the new root that belong to one machine, or are of no use afterwards.
LEFT_OUT = (
    "etc/hostname",
    "etc/resolv.conf",
    "etc/ssh/ssh_host_*",
    "var/cache/apt/*.bin",
    "var/cache/apt/archives/*.deb",
    "var/lib/apt/lists/*_*",
    "var/lib/dbus/machine-id",
    "var/log/*.log",
    "var/log/apt/*",
)


def bootstrap(job: Job) -> None:
    """Make the plain Debian root: the slow step, which our own files do not touch."""
    debian.refresh_lists(job.shell)
    root = job.target / "root"
    archive = debian.mirror(job.shell)
    include = f"--include={','.join(PACKAGES)}"
    job.shell.run("debootstrap", "--variant=minbase", include, debian.SUITE, root, archive, env=debian.QUIET)
    for pattern in LEFT_OUT:
        for path in root.glob(pattern):
            path.unlink()


def configure(job: Job, base: Part, apps: Part) -> None:
    """Copy the plain root and put the lab's files, users and units into it."""
    root = job.target / "root"
    job.shell.run("cp", "--archive", "--reflink=auto", job.folder(base) / "root", root)
    for source in sorted(path for path in FILES.rglob("*") if path.is_file()):
        place = root / source.relative_to(FILES)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
        place.chmod(0o440 if "sudoers.d" in place.parts else 0o644)
    shutil.copyfile(job.folder(apps) / "bin/hello", root / "usr/local/bin/hello")
    (root / "usr/local/bin/hello").chmod(0o755)

    chroot = ("chroot", root)
    for user, options in USERS.items():
        # A password of `*` matches nothing, and does not lock the account as useradd's `!` does.
        job.shell.run(*chroot, "useradd", "--create-home", "--shell=/bin/bash", "--password=*", *options, user)
    job.shell.run(*chroot, "systemctl", "--quiet", "enable", *ENABLED)
    job.shell.run(*chroot, "systemctl", "--quiet", "mask", *MASKED)
    job.shell.run(*chroot, "systemctl", "--quiet", "set-default", "multi-user.target")

    # Empty, not absent: systemd then gives each machine an id of its own, without the work of a first boot.
    (root / "etc/machine-id").write_text("")
    (root / "var/lib/dbus/machine-id").symlink_to("/etc/machine-id")


def base_part() -> Part:
    """Return the part that holds the plain Debian root, in `root`."""
    return Part(
        name="debian-root",
        title=f"bootstrap Debian {debian.SUITE} for VMs and images",
        inputs=(debian.SUITE, *PACKAGES, *LEFT_OUT),
        build=bootstrap,
        lane=Lane.NETWORK,
        remedy=debian.REMEDY,
    )


def part(base: Part, apps: Part) -> Part:
    """Return the part that holds the VMs' root, in `root`."""
    return Part(
        name="vm-root",
        title="configure the VMs' root file system",
        inputs=sources(Path(__file__), FILES),
        build=lambda job: configure(job, base, apps),
        lane=Lane.DISK,
        needs=(base, apps),
    )
