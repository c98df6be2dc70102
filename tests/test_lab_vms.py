"""What makes a VM itself, and how people reach it."""

import stat
from pathlib import Path

from lab import sshkeys, vms
from lab.spec import VmSpec

VM = VmSpec(name="billing-1", address="10.77.0.21", version="v7")


def test_a_vm_has_its_own_identity() -> None:
    files = vms.files(VM, host_key="PRIVATE", host_public_key="ssh-ed25519 AAAA", authorized_key="ssh-ed25519 BBBB")
    assert files["etc/hostname"].text == "billing-1\n"
    assert "10.77.0.21 billing-1\n" in files["etc/hosts"].text
    assert files["etc/resolv.conf"].text == "nameserver 10.77.0.5\n"
    assert files["etc/default/hello"].text == "VERSION=v7\n"
    assert files["etc/ssh/ssh_host_ed25519_key"] == vms.File("PRIVATE", 0o600)
    assert files["etc/ssh/authorized_keys"].text == "ssh-ed25519 BBBB"
    other = vms.files(VmSpec(name="b", address=VM.address), host_key="", host_public_key="", authorized_key="")
    assert files["etc/machine-id"] != other["etc/machine-id"]
    assert len(files["etc/machine-id"].text.strip()) == 32
    assert [name for name, file in files.items() if "PRIVATE" in file.text] == ["etc/ssh/ssh_host_ed25519_key"]


def test_a_vm_boots_in_its_own_network_unknown_to_the_machine_s_manager() -> None:
    command = vms.boot_command(VM)
    assert "--network-namespace-path=/run/netns/ivm-billing-1" in command
    assert "--directory=/var/lib/istio-vm-lab/vms/billing-1/root" in command
    assert {"--register=no", "--keep-unit", "--boot", "--link-journal=no"} <= set(command)


def test_the_init_of_a_vm_is_process_one_below_the_machine_s_namespace() -> None:
    assert vms.is_init("Name:\tsystemd\nNSpid:\t4711\t1\n")
    assert not vms.is_init("Name:\tsshd\nNSpid:\t4712\t17\n")
    assert not vms.is_init("Name:\tinit\nNSpid:\t1\n")
    assert not vms.is_init("Name:\tkthread\n")


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    key = tmp_path / "ssh" / "id_ed25519"
    public = sshkeys.ensure(key, "me")
    assert public.startswith("ssh-ed25519 AAAA")
    assert public.endswith(" me\n")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text().startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert sshkeys.ensure(key, "me") == public
    (tmp_path / "ssh" / "id_ed25519.pub").unlink()
    assert sshkeys.ensure(key, "me") != public


def test_known_hosts_lists_addresses_and_keys_without_comments() -> None:
    keys = [("10.77.0.21", "ssh-ed25519 AAAA billing-1\n"), ("10.77.0.22", "ssh-ed25519 BBBB\n")]
    assert sshkeys.known_hosts(keys) == "10.77.0.21 ssh-ed25519 AAAA\n10.77.0.22 ssh-ed25519 BBBB\n"


def test_ssh_trusts_the_pinned_key_only_and_asks_nothing() -> None:
    command = sshkeys.command(VM, "operator")
    assert command[-1] == "operator@10.77.0.21"
    for option in (
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=/dev/null",
        "BatchMode=yes",
        "IdentitiesOnly=yes",
    ):
        assert option in command
