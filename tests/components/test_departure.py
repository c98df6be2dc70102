"""Leaving with a VM that may be dead, under a real shell, with an ssh and a kubectl that answer as told."""

import os
import subprocess
from pathlib import Path

import pytest

from components.departure import departure_command
from components.ssh import SshLogin

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nnot to be seen\n-----END OPENSSH PRIVATE KEY-----"
VM = SshLogin(host="10.77.0.22", port=2222, user="ops", host_key="ssh-ed25519 AAAA", private_key=KEY)
BASTION = SshLogin(host="jump.example.com", port=22, user="me", host_key="ecdsa-sha2-nistp256 BBBB", private_key="jump")
FAKE_SSH = """#!/bin/sh
folder=$(echo "$@" | sed 's|.*UserKnownHostsFile=\\([^ ]*\\)/known_hosts.*|\\1|')
(cd "$folder" && head -n 9 * && stat -c '%n %a' *) >"$HERE/files"
echo "$folder" >"$HERE/folder"
printf '%s\\n' "$@" >"$HERE/arguments"
echo "$SAYS" >&2
exit "$STATUS"
"""


def leave(folder: Path, status: int, says: str, bastion: SshLogin | None = None) -> subprocess.CompletedProcess[str]:
    ssh = folder / "ssh"
    ssh.write_text(FAKE_SSH)
    ssh.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "HERE": str(folder),
        "STATUS": str(status),
        "SAYS": says,
        "ISTIO_VM_MESH_KEY": KEY,
        "ISTIO_VM_MESH_BASTION_KEY": "jump",
    }
    text = departure_command("billing-2", VM, bastion, on_vm="sh host remove 10.77.0.22", then="echo entry deleted")
    assert "not to be seen" not in text
    return subprocess.run(["sh", "-c", text], env=environment, capture_output=True, text=True, timeout=20)


def test_a_vm_that_answers_is_taken_down_as_any_other(tmp_path: Path) -> None:
    done = leave(tmp_path, 0, "")
    assert (done.returncode, done.stdout, done.stderr.strip()) == (0, "entry deleted\n", "")
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[-2:] == ["ops@10.77.0.22", "sh host remove 10.77.0.22"]
    assert {"StrictHostKeyChecking=yes", "BatchMode=yes", "IdentitiesOnly=yes", "2222"} <= set(arguments)
    files = (tmp_path / "files").read_text()
    assert "[10.77.0.22]:2222 ssh-ed25519 AAAA" in files
    assert KEY in files
    assert {line.split()[1] for line in files.splitlines() if line.startswith(("key ", "known_hosts "))} == {"600"}
    assert not Path((tmp_path / "folder").read_text().strip()).exists(), "the key must not stay"


def test_a_dead_vm_is_given_up_with_a_word_about_what_remains(tmp_path: Path) -> None:
    done = leave(tmp_path, 255, "ssh: connect to host 10.77.0.22 port 2222: No route to host")
    assert (done.returncode, done.stdout) == (0, "entry deleted\n")
    said, warning = done.stderr.splitlines()
    assert said == "ssh: connect to host 10.77.0.22 port 2222: No route to host"
    assert warning.startswith("warning: VM billing-2 is unreachable and was given up")
    assert warning.endswith("removes them there: sh host remove 10.77.0.22")


@pytest.mark.parametrize(
    ("status", "says"),
    [(1, '{"vm":"billing-2","code":"residue"}'), (255, "ops@10.77.0.22: Permission denied (publickey).")],
)
def test_a_vm_that_refuses_is_no_dead_one(tmp_path: Path, status: int, says: str) -> None:
    done = leave(tmp_path, status, says)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", f"{says}\n")


def test_a_bastion_has_its_own_key_and_host_key(tmp_path: Path) -> None:
    leave(tmp_path, 0, "", BASTION)
    files = (tmp_path / "files").read_text()
    assert "jump.example.com ecdsa-sha2-nistp256 BBBB" in files
    proxy = next(line for line in (tmp_path / "arguments").read_text().splitlines() if line.startswith("ProxyCommand="))
    assert "/bastion -W [%h]:%p me@jump.example.com" in proxy.replace("'", "")
