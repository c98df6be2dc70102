"""The real private key, tokens and credentials of the lab are looked for everywhere they must not be."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml
from stack import PROJECT, Stack

from lab.runtime import Lab

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(300)]

VM = "billing-2"
TOKEN = "/var/run/secrets/tokens/istio-token"


def pem_lines(text: str) -> list[str]:
    """The secret lines of a PEM file: any of them is enough to recognise it."""
    return [line for line in text.splitlines() if line and not line.startswith("-----")]


def credentials(lab: Lab) -> dict[str, list[bytes]]:
    """Every secret of the running lab, by name, in each of the forms it could leak in."""
    user = yaml.safe_load((PROJECT / ".lab/kubeconfig").read_text())["users"][0]["user"]
    key = user["client-key-data"]
    token = lab.vm_exec(VM, ["cat", TOKEN]).stdout.strip()
    assert token.count(".") == 2, "the VM must have a token to look for"
    return {
        "ssh private key": [line.encode() for line in pem_lines((PROJECT / ".lab/ssh/id_ed25519").read_text())[1:]],
        "kubeconfig key": [key.encode(), *(x.encode() for x in pem_lines(base64.b64decode(key).decode())[:1])],
        "token": [token.encode(), token.rsplit(".", 1)[1].encode(), base64.b64encode(token.encode())],
    }


class ProcessLists:
    """Collects the command line of every process that shows up, as anyone who runs ps would."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes())
                except OSError:
                    continue

    def __enter__(self) -> ProcessLists:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def world_readable_files(roots: Iterable[Path]) -> Iterator[Path]:
    """Regular files that any user of the machine could open: readable, in folders that can be entered."""
    for root in roots:
        for folder, folders, files in os.walk(root):
            folders[:] = [name for name in folders if Path(folder, name).lstat().st_mode & stat.S_IXOTH]
            for name in files:
                path = Path(folder, name)
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode) and mode & stat.S_IROTH and path.stat().st_size < 8 << 20:
                    yield path


def leaks(secrets: dict[str, list[bytes]], where: str, content: bytes) -> list[str]:
    return [f"{name} in {where}" for name, forms in secrets.items() if any(form in content for form in forms)]


def test_no_secret_in_state_previews_logs_or_process_lists(stack: Stack, lab: Lab) -> None:
    """A VM leaves and joins again while everything is watched; then its real secrets are searched for."""
    kept = stack.billing["vms"].pop(VM)
    stack.up()
    stack.billing["vms"][VM] = kept
    with ProcessLists() as processes:
        texts = {f"preview {flag}": stack.run("preview", *flag.split()) for flag in ("", "--diff", "--json")}
        texts["up"] = stack.run("up")
        texts["second up"] = stack.run("up")
    secrets = credentials(lab)
    assert any(b"pulumi\x00up\x00" in line for line in processes.seen), "the watcher must have seen the run itself"
    found = [
        leak for name, done in texts.items() for leak in leaks(secrets, name, (done.stdout + done.stderr).encode())
    ]
    found += [leak for line in processes.seen for leak in leaks(secrets, line[:80].decode(errors="replace"), line)]
    for path in (PROJECT / ".lab/pulumi").rglob("*"):
        if path.is_file():
            found += leaks(secrets, str(path), path.read_bytes())
    assert (PROJECT / ".lab/pulumi").stat().st_mode & 0o077 == 0, "what is in it is for its owner alone"
    assert found == []
    assert "[secret]" in texts["preview --json"].stdout


def test_no_secret_in_a_world_readable_file(joined: Stack, lab: Lab) -> None:
    secrets = credentials(lab)
    roots = [PROJECT / ".lab", Path("/run/istio-vm-lab"), Path("/var/lib/istio-vm-lab/log"), Path("/tmp")]
    found = [leak for path in world_readable_files(roots) for leak in leaks(secrets, str(path), path.read_bytes())]
    assert found == []
    search = "cat >/root/.patterns; find /etc /var /run /usr/local /tmp -xdev -type f -perm -o=r -size -2M -print0"
    search += " | xargs -0 grep -lF -f /root/.patterns; rm /root/.patterns"
    for name, forms in secrets.items():
        hits = lab.vm_exec(VM, ["sh", "-c", f"umask 077; {search}"], stdin=forms[0].decode() + "\n").stdout
        assert hits == "", f"{name} on the VM in {hits}"
    modes = lab.vm_exec(VM, ["sh", "-c", f"stat -c '%a %U %n' {TOKEN} /etc/certs/key.pem"]).stdout
    assert {line.split()[0] for line in modes.splitlines()} <= {"600", "400"}, modes


def test_the_search_finds_a_secret_where_there_is_one(lab: Lab, joined: Stack, tmp_path: Path) -> None:
    secrets = credentials(lab)
    (tmp_path / "leak").write_bytes(b"x" + secrets["token"][0] + b"y")
    tmp_path.chmod(0o755)
    (found,) = world_readable_files([tmp_path])
    assert leaks(secrets, "leak", found.read_bytes()) == ["token in leak"]
    with ProcessLists() as processes:
        subprocess.run(["sleep", "0.2"], check=True)
    assert b"sleep\x000.2\x00" in processes.seen
