"""What is sent to a VM before it is configured, and what root makes of it, under real shells."""

import dataclasses
import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from host_program import HOST

from hosts.plan import (
    HELPER,
    PROGRAM,
    PROGRAM_DIGEST,
    START_AS_ROOT,
    STATE,
    Package,
    Upload,
    configure,
    missing,
    present_command,
    receive_command,
    uploads,
)

SHELLS = pytest.mark.parametrize("shell", ["dash", "bash"])
CONTENT = b'#!/bin/sh\necho "runs $1 from $0, and reads $(cat)"\n'
UPLOAD = Upload(path=".program", sha256=hashlib.sha256(CONTENT).hexdigest(), content=CONTENT)
FILES = dataclasses.replace(
    HOST,
    packages={
        "deb-amd64": Package(file="packages/a.deb", sha256="a" * 64),
        "rpm-amd64": Package(file="packages/a.rpm", sha256="b" * 64),
        "rpm-arm64": Package(url="http://mirror/arm.rpm", sha256="c" * 64),
    },
)
NOTHING = hashlib.sha256().hexdigest()


def on_vm(shell: str, folder: Path, command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command in a folder that is the login's home, with `/run` and what is installed below it."""
    (folder / "run").mkdir(exist_ok=True)
    for path in ("/run/", HELPER, f"{STATE}/"):
        command = command.replace(path, f"{folder}{path}")
    return subprocess.run([shell, "-c", command], input=stdin, capture_output=True, cwd=folder, timeout=20)


def start(shell: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    words = " ".join(arguments)
    return on_vm(shell, folder, f"set -- {words}\n{START_AS_ROOT}", b"vm: billing-1\nend\n")


def install(folder: Path, content: bytes) -> Path:
    helper = folder / HELPER[1:]
    helper.parent.mkdir(parents=True)
    helper.write_bytes(content)
    return helper


def test_the_program_and_every_package_that_is_a_file_are_sent() -> None:
    program, *packages = uploads(FILES)
    assert (program.path, program.content) == (f".istio-vm-mesh-{PROGRAM_DIGEST[:16]}", PROGRAM)
    assert [(upload.path, upload.file, upload.kind) for upload in packages] == [
        (f"istio-vm-mesh-{'a' * 16}.package", "packages/a.deb", "deb-amd64"),
        (f"istio-vm-mesh-{'b' * 16}.package", "packages/a.rpm", "rpm-amd64"),
    ]
    assert program.path in configure(HOST).command


@SHELLS
def test_what_is_sent_arrives_whole_or_not_at_all(shell: str, tmp_path: Path) -> None:
    cut = on_vm(shell, tmp_path, receive_command(UPLOAD), CONTENT[:-1])
    assert (cut.returncode, cut.stderr) == (1, b".program did not arrive whole: run up again\n")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert on_vm(shell, tmp_path, receive_command(UPLOAD), CONTENT).returncode == 0
    assert (tmp_path / ".program").read_bytes() == CONTENT
    assert (tmp_path / ".program").stat().st_mode & 0o777 == 0o600


@SHELLS
@pytest.mark.parametrize("where", ["home", "installed"])
def test_a_program_that_is_there_is_not_sent_again(shell: str, tmp_path: Path, where: str) -> None:
    wanted = uploads(HOST)
    assert missing(wanted, on_vm(shell, tmp_path, present_command(wanted)).stdout.decode()) == wanted
    if where == "home":
        (tmp_path / wanted[0].path).write_bytes(PROGRAM)
    else:
        install(tmp_path, PROGRAM)
    assert missing(wanted, on_vm(shell, tmp_path, present_command(wanted)).stdout.decode()) == []
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.write_bytes(PROGRAM[:-1])
    assert missing(wanted, on_vm(shell, tmp_path, present_command(wanted)).stdout.decode()) == wanted


@SHELLS
@pytest.mark.parametrize("kept", ["package.deb", "previous.deb", "refused.deb", "home", ""])
def test_a_vm_gets_the_package_of_its_own_kind_unless_it_keeps_it(shell: str, tmp_path: Path, kept: str) -> None:
    packages = {kind: dataclasses.replace(package, sha256=NOTHING) for kind, package in FILES.packages.items()}
    other = dataclasses.replace(packages["rpm-amd64"], sha256="b" * 64)
    wanted = uploads(dataclasses.replace(FILES, packages={**packages, "rpm-amd64": other}))
    for tool, text in {"dpkg-query": "", "dpkg": "echo amd64"}.items():
        (tmp_path / tool).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / tool).chmod(0o755)
    (tmp_path / STATE[1:]).mkdir(parents=True)
    if kept:
        (tmp_path / (wanted[1].path if kept == "home" else f"{STATE[1:]}/{kept}")).touch()
    done = on_vm(shell, tmp_path, f"PATH={tmp_path}:$PATH\n{present_command(wanted)}")
    assert done.stderr == b""
    names = [upload.kind for upload in missing(wanted, done.stdout.decode())]
    assert names == ([""] if kept else ["", "deb-amd64"])


@SHELLS
@pytest.mark.parametrize("where", ["home", "installed"])
def test_root_runs_a_copy_of_its_own_that_it_has_verified(shell: str, tmp_path: Path, where: str) -> None:
    if where == "home":
        (tmp_path / ".program").write_bytes(CONTENT)
        install(tmp_path, b"another version")
    else:
        install(tmp_path, CONTENT)
        (tmp_path / ".program").write_bytes(b"exit 9 # not what was sent")
    done = start(shell, tmp_path, UPLOAD.sha256, ".program")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().startswith(f"runs configure from {tmp_path}/run/istio-vm-mesh.")
    assert done.stdout.endswith(b"reads vm: billing-1\nend\n")
    assert list((tmp_path / "run").iterdir()) == []
    assert not (tmp_path / ".program").exists()


@SHELLS
def test_what_is_not_the_program_is_never_run(shell: str, tmp_path: Path) -> None:
    (tmp_path / ".program").write_bytes(CONTENT + b"\n")
    install(tmp_path, CONTENT[:-1])
    done = start(shell, tmp_path, UPLOAD.sha256, ".program")
    assert (done.returncode, done.stdout) == (1, b"")
    assert json.loads(done.stderr) == {
        "vm": "billing-1",
        "code": "incomplete",
        "fact": "the program did not reach this VM whole",
        "hint": "run up again",
    }
    assert list((tmp_path / "run").iterdir()) == []


@SHELLS
def test_the_programs_exit_status_is_the_steps(shell: str, tmp_path: Path) -> None:
    content = b"exit 7\n"
    (tmp_path / ".program").write_bytes(content)
    assert start(shell, tmp_path, hashlib.sha256(content).hexdigest(), ".program").returncode == 7


@SHELLS
def test_whether_it_may_become_root_is_asked_without_doing_anything(shell: str, tmp_path: Path) -> None:
    (tmp_path / ".program").write_bytes(CONTENT)
    done = start(shell, tmp_path, UPLOAD.sha256)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / ".program").exists()
