"""Virtual machines: systemd in a container on an overlay of the shared root, with its own network and host key.

A VM's power is its init: ending that ends everything on it at once, like pulling the plug. The overlay stays until a
reset.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab import cgroups, machine, network, paths, processes, sshkeys
from lab.errors import LabError
from lab.spec import MIRROR_ADDRESS, VmSpec
from lab.tasks import Cancel

BOOT_SECONDS = 60
_POWER_OFF_SECONDS = 10
_CLEAN_UP_SECONDS = 3
_PREPARED = ".prepared"
_REBOOT = 133
_UNROUTED = "unrouted"
_SUPERVISE = f"""while :; do
    /usr/bin/systemd-nspawn "$@"
    [ $? -eq {_REBOOT} ] || exit
    "$PYTHON" -m lab.vms "$NAME" "$ADDRESS" "$ROUTES" || exit
done"""
"""Shell text: boots the VM again after `reboot` on it, which systemd-nspawn reports by this exit status."""
_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class File:
    """A file that makes a VM itself rather than a copy of the shared root."""

    text: str
    mode: int = 0o644


def files(vm: VmSpec, *, host_key: str, host_public_key: str, authorized_key: str) -> Mapping[str, File]:
    """Return path -> file of everything on a VM that is its own."""
    return {
        "etc/hostname": File(f"{vm.name}\n"),
        "etc/hosts": File(f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{vm.address} {vm.name}\n"),
        "etc/resolv.conf": File(f"nameserver {MIRROR_ADDRESS}\n"),
        "etc/machine-id": File(hashlib.sha256(vm.name.encode()).hexdigest()[:32] + "\n", 0o444),
        f"etc/ssh/{sshkeys.HOST_KEY}": File(host_key, 0o600),
        f"etc/ssh/{sshkeys.HOST_KEY}.pub": File(host_public_key),
        "etc/ssh/authorized_keys": File(authorized_key),
        "etc/default/hello": File(f"VERSION={vm.version}\n"),
    }


def boot_command(vm: VmSpec) -> list[str]:
    """Return the command that boots a VM and, when it reboots, boots it again."""
    return [
        *("/bin/sh", "-c", _SUPERVISE, vm.process),
        "--quiet",
        f"--directory={root(vm)}",
        f"--machine=ivm-{vm.name}",
        f"--hostname={vm.name}",
        "--register=no",
        "--keep-unit",
        "--settings=no",
        f"--network-namespace-path={paths.netns(vm.namespace)}",
        "--capability=CAP_NET_ADMIN,CAP_NET_RAW",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=read-only",
        "--boot",
    ]


def root(vm: VmSpec) -> Path:
    """Return the VM's whole file system, as the machine sees it."""
    return vm.folder / "root"


def prepare(vm: VmSpec, shared_root: Path) -> None:
    """Mount the VM's overlay and write its own files, unless that was done."""
    if root(vm) not in machine.mounts_below(vm.folder):
        for name in ("root", "upper", "work"):
            (vm.folder / name).mkdir(parents=True, exist_ok=True)
        options = f"lowerdir={shared_root},upperdir={vm.folder / 'upper'},workdir={vm.folder / 'work'}"
        machine.run(["mount", "-t", "overlay", f"ivm-{vm.name}", "-o", options, str(root(vm))])
    if (vm.folder / _PREPARED).exists():
        return
    own_key = vm.folder / sshkeys.HOST_KEY
    public = sshkeys.ensure(own_key, vm.name)
    authorized = sshkeys.ensure(paths.SSH_KEY, "istio-vm-lab")
    wanted = files(vm, host_key=own_key.read_text(), host_public_key=public, authorized_key=authorized)
    for name, file in wanted.items():
        path = root(vm) / name
        path.unlink(missing_ok=True)
        path.touch(file.mode)
        path.write_text(file.text)
    (vm.folder / _PREPARED).touch()


def boot(vm: VmSpec, cancel: Cancel) -> None:
    """Switch a VM on, unless it is, and wait until people can log in and its application answers."""
    if not processes.alive(vm.process):
        if processes.read(vm.process) or cgroups.processes(vm.process):
            power_off(vm)
        network.create([network.vm_leg(vm)])
        processes.spawn(vm.process, boot_command(vm), env=_supervisor_env(vm))
    cancel.until(lambda: up(vm), f"VM {vm.name} (log {paths.log(vm.process)})", BOOT_SECONDS, lambda: _ended(vm))


def up(vm: VmSpec) -> bool:
    """Return whether a VM has come up: sshd and the application answer, users may log in."""
    pid = init(vm)
    if pid is None or Path(f"/proc/{pid}/root/run/nologin").exists():
        return False
    return _banner(vm.address, 22).startswith(b"SSH-") and _connects(vm.address, 8080)


def power_off(vm: VmSpec) -> None:
    """Pull the plug: end the VM's init, and with it everything on the VM, which gets no chance to write anything.

    Raises:
        LabError: It is still there after all.
    """
    pid = init(vm)
    started = processes.start_time(pid) if pid else None
    if pid and started:
        processes.end_pids({pid: started}, seconds=_POWER_OFF_SECONDS)
    record = processes.read(vm.process)
    if record:
        processes.wait_end(record, _CLEAN_UP_SECONDS)  # systemd-nspawn takes back what it has set up
    left = processes.end_group(vm.process, _POWER_OFF_SECONDS)
    if left:
        raise LabError(f"VM {vm.name} cannot be switched off: processes {left} do not end")
    cgroups.remove(vm.process)
    unplug(vm)
    processes.forget(vm.process)


def unplug(vm: VmSpec) -> None:
    """Remove the VM's network namespace, and with it its connections and packet filter rules."""
    network.remove(vm.namespace, network.vm_leg(vm).port)


def discard(vm: VmSpec) -> None:
    """Throw away what a switched-off VM has written; its host key stays."""
    (vm.folder / _PREPARED).unlink(missing_ok=True)
    machine.unmount_below(vm.folder)
    for name in ("upper", "work"):
        machine.remove_tree(vm.folder / name)


def init(vm: VmSpec) -> int | None:
    """Return the id, on the machine, of the VM's process 1."""
    for pid in sorted(cgroups.processes(vm.process, everywhere=False)):
        with contextlib.suppress(OSError):
            if is_init(Path(f"/proc/{pid}/status").read_text()) and processes.start_time(pid):
                return pid
    return None


def is_init(status: str) -> bool:
    """Return whether the text of /proc/PID/status is that of process 1 of a namespace below the machine's own."""
    for line in status.splitlines():
        if line.startswith("NSpid:"):
            ids = line.split()[1:]
            return len(ids) > 1 and ids[-1] == "1"
    return False


def execute(vm: VmSpec, argv: list[str], stdin: str, timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a command on a VM without ssh, by joining its namespaces.

    Raises:
        LabError: The VM is off.
    """
    pid = init(vm)
    if pid is None:
        raise LabError(f"VM {vm.name} is switched off")
    namespaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd")
    command = ["nsenter", "--target", str(pid), *namespaces, "--"]
    return subprocess.run(
        command + argv, input=stdin, capture_output=True, text=True, check=False, timeout=timeout, env=_ENV
    )


def _supervisor_env(vm: VmSpec) -> dict[str, str]:
    own = {"NAME": vm.name, "ADDRESS": vm.address, "ROUTES": "" if vm.routed else _UNROUTED}
    return _ENV | own | {"PYTHON": sys.executable, "PYTHONPATH": str(paths.CHECKOUT)}


def _ended(vm: VmSpec) -> str:
    record = processes.read(vm.process)
    if record and record.alive:
        return ""
    return f"it has ended:\n{processes.last_lines(str(paths.log(vm.process)))}"


def _banner(address: str, port: int) -> bytes:
    try:
        with socket.create_connection((address, port), timeout=1) as connection:
            return connection.recv(64)
    except OSError:
        return b""


def _connects(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


def main(name: str, address: str, routes: str) -> None:
    """Renew a VM's network between two boots: a machine that reboots forgets its connections and packet filters."""
    vm = VmSpec(name=name, address=address, routed=routes != _UNROUTED)
    unplug(vm)
    network.create([network.vm_leg(vm)])


if __name__ == "__main__":
    main(*sys.argv[1:])
