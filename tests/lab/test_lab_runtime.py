"""The lab itself, as far as it can be tested while others use it: on a VM of its own, which is taken out again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import machine, network, paths, processes
from lab.progress import Progress
from lab.runtime import Lab, VmSpec

pytestmark = pytest.mark.lab
EXTRA = VmSpec(name="runtime-test", address="10.77.0.190", version="v9")


@pytest.fixture(scope="module")
def vm(lab: Lab) -> Iterator[str]:
    if EXTRA in lab.spec.vms:
        lab.remove_vm(EXTRA.name)
    lab.add_vm(EXTRA)
    yield EXTRA.name
    lab.remove_vm(EXTRA.name)


def ssh(lab: Lab, name: str, command: str, user: str = "root") -> str:
    argv = [*lab.vm_ssh(name, user), command]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_component_runs_and_its_log_is_where_status_says(lab: Lab) -> None:
    components = lab.status()
    assert {c.state for c in components} == {"running"}
    assert all(c.log.is_file() for c in components)
    assert lab.running


def test_a_second_start_changes_nothing(lab: Lab) -> None:
    before = lab.status()
    begin = time.monotonic()
    lab.start(Progress())
    assert time.monotonic() - begin < 3
    assert lab.status() == before


def test_nothing_of_the_lab_listens_in_the_machine_s_own_namespace(lab: Lab) -> None:
    own = Path("/proc/self/ns/net").readlink()
    members = [r.pid for r in processes.records()]
    assert members
    at_home = [pid for pid in members if Path(f"/proc/{pid}/ns/net").readlink() == own]
    supervisors = {r.pid for r in processes.records() if r.name.startswith("vm-")}
    assert set(at_home) == supervisors, (
        "only the VMs' supervisors, which open no socket, run in the machine's namespace"
    )


def test_an_added_vm_has_its_own_key_name_users_and_application(lab: Lab, vm: str) -> None:
    assert ssh(lab, vm, "hostname; id -un").split() == [vm, "root"]
    assert ssh(lab, vm, "sudo -n id -un", user="operator") == "root"
    refused = subprocess.run([*lab.vm_ssh(vm, "deploy"), "sudo -n true"], capture_output=True, timeout=30)
    assert refused.returncode != 0
    assert ssh(lab, vm, "curl -s localhost:8080") == f"Hello version: v9, instance: {vm}"
    assert ssh(lab, vm, "systemctl is-system-running --wait") == "running"
    keys = [line.split()[2] for line in paths.KNOWN_HOSTS.read_text().splitlines()]
    assert len(set(keys)) == len(keys) == len(lab.spec.vms)


def test_another_host_key_is_refused(lab: Lab, vm: str, tmp_path: Path) -> None:
    wrong = tmp_path / "known_hosts"
    other = paths.KNOWN_HOSTS.read_text().splitlines()[0].split(maxsplit=1)[1]
    wrong.write_text(f"{EXTRA.address} {other}\n")
    argv = [word.replace(str(paths.KNOWN_HOSTS), str(wrong)) for word in lab.vm_ssh(vm)]
    done = subprocess.run([*argv, "true"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


def test_ssh_finds_its_files_in_a_checkout_whose_path_has_a_space(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "SSH_KEY", Path("/a checkout/key"))
    monkeypatch.setattr(paths, "KNOWN_HOSTS", Path("/a checkout/hosts"))
    ssh, *options = lab.vm_ssh(lab.spec.vms[0].name)
    read = subprocess.run([ssh, "-G", *options], capture_output=True, text=True, check=True, timeout=30).stdout
    assert {"identityfile /a checkout/key", "userknownhostsfile /a checkout/hosts"} <= set(read.splitlines())


def tracked(lab: Lab, name: str) -> int:
    """Connections that the VM's kernel tracks while somebody is logged in to it."""
    ssh(lab, name, "true")
    count = network.inside(EXTRA.namespace, "conntrack", "-C")
    return int(subprocess.run(count, capture_output=True, text=True, check=True, timeout=30).stdout)


def test_a_vm_tracks_no_connection_and_has_no_rules_at_first(lab: Lab, vm: str) -> None:
    lab.vm_reset(vm)
    assert lab.vm_exec(vm, ["iptables-save"]).stdout == ""
    assert tracked(lab, vm) == 0
    lab.vm_exec(vm, ["iptables", "-I", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"])
    assert tracked(lab, vm) > 0


def test_a_name_outside_the_mesh_and_an_address_outside_the_lab_fail_at_once(lab: Lab, vm: str) -> None:
    begin = time.monotonic()
    assert lab.vm_exec(vm, ["getent", "hosts", "example.com"]).returncode == 2
    assert lab.vm_exec(vm, ["curl", "-s", "-m", "10", "http://192.0.2.1/"]).returncode == 7
    assert time.monotonic() - begin < 3


def test_a_vm_gets_the_package_from_the_mirror(lab: Lab, vm: str) -> None:
    fetch = "curl -sf http://10.77.0.5/istio-sidecar.deb | sha256sum | cut -d' ' -f1"
    assert ssh(lab, vm, fetch) == paths.DEB_CHECKSUM.read_text().split()[0]


def test_power_off_is_silence_and_power_on_the_same_machine(lab: Lab, vm: str) -> None:
    lab.vm_exec(vm, ["touch", "/etc/mark"])
    lab.vm_exec(vm, ["iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"])
    lab.vm_power_off(vm)
    assert {c.name: c.state for c in lab.status()}[EXTRA.process] == "stopped"
    assert lab.running, "a VM that is switched off is no fault of the lab"
    assert not processes.end_group(EXTRA.process, 0)
    dead = subprocess.run([*lab.vm_ssh(vm), "true"], capture_output=True, text=True, timeout=30)
    assert dead.returncode == 255
    assert "No route to host" in dead.stderr or "timed out" in dead.stderr
    lab.vm_power_on(vm)
    assert (lab.vm_root(vm) / "etc/mark").exists()
    assert ssh(lab, vm, "ls /etc/mark") == "/etc/mark"
    assert lab.vm_exec(vm, ["iptables-save"]).stdout == ""


def test_start_switches_on_what_is_off(lab: Lab, vm: str) -> None:
    others = [c for c in lab.status() if c.name != EXTRA.process]
    lab.vm_power_off(vm)
    lab.start(Progress())
    assert ssh(lab, vm, "hostname") == vm
    assert [c for c in lab.status() if c.name != EXTRA.process] == others


def test_a_vm_comes_back_from_a_reboot(lab: Lab, vm: str) -> None:
    first = ssh(lab, vm, "cat /proc/sys/kernel/random/uuid; stat -c %Y /proc/1").split()[1]
    time.sleep(1.1)
    lab.vm_exec(vm, ["systemctl", "reboot"])
    for _ in range(60):
        argv = [*lab.vm_ssh(vm), "stat -c %Y /proc/1"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
        if done.returncode == 0 and done.stdout.strip() != first:
            return
        time.sleep(0.25)
    pytest.fail("not within 15 s")


def test_reset_is_a_fresh_machine_with_the_same_key(lab: Lab, vm: str) -> None:
    lab.vm_exec(vm, ["touch", "/etc/mark"])
    key = lab.vm_exec(vm, ["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout
    lab.vm_reset(vm)
    assert not (lab.vm_root(vm) / "etc/mark").exists()
    assert lab.vm_exec(vm, ["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout == key
    assert ssh(lab, vm, "hostname") == vm


def test_a_removed_vm_leaves_nothing(lab: Lab) -> None:
    gone = VmSpec(name="runtime-gone", address="10.77.0.191")
    lab.add_vm(gone)
    lab.remove_vm(gone.name)
    assert gone.namespace not in network.namespaces()
    assert not gone.folder.exists()
    assert machine.mounts_below(gone.folder) == []
    assert gone.address not in paths.KNOWN_HOSTS.read_text()
    assert processes.read(gone.process) is None
    assert not list(Path("/sys/fs/cgroup").glob(f"*/{paths.CGROUP}/{gone.process}"))


def test_another_checkout_is_told_whose_lab_runs(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "lab").symlink_to(paths.CHECKOUT / "lab")
    script = (
        "from pathlib import Path; from lab import paths; paths.CHECKOUT = Path.cwd();"
        "from lab.cli import main; raise SystemExit(main(['stop']))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"run `make down` in {paths.CHECKOUT}, then try again" in done.stderr
    assert lab.running
