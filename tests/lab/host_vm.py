"""A VM that a test may break: what it is to become, what is on it, and packages that differ from the lab's."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

from stack import PROJECT, Kubectl, Stack, ssh_argv

from hosts.plan import DesiredHost, Package, configure, missing, present_command, receive_command, uploads
from hosts.sidecar_files import SidecarFiles
from lab.runtime import Lab
from lab.spec import VmSpec

PACKAGE_URL = "http://10.77.0.5/istio-sidecar.deb"
NOT_DISK = ("run", "tmp", "proc", "sys", "dev", "var/log")


def lab_digest() -> str:
    """SHA-256 of the lab's package."""
    return (PROJECT / ".lab/istio-sidecar.deb.sha256").read_text().split()[0]


def desired(vm: VmSpec, stack: Stack, kubectl: Kubectl, **changes: Any) -> DesiredHost:
    """What a VM could become by the dev stack's mesh."""
    path = "jsonpath={.data.root-cert\\.pem}"
    root = kubectl("get", "configmap", "istio-ca-root-cert", "-n", "istio-system", "-o", path)
    istiod = stack.outputs()["mesh"]["istiod"]
    files = SidecarFiles(
        mesh_yaml="defaultConfig: {}\n",
        cluster_env="ISTIO_INBOUND_PORTS='8080'\nISTIO_META_DNS_CAPTURE='true'\n",
        hosts=f"{istiod['address']} {istiod['host']}\n",
        root_certificate=root,
    )
    given: dict[str, Any] = {
        "vm": vm.name,
        "files": files,
        "packages": {"deb-amd64": Package(url=PACKAGE_URL, sha256=lab_digest())},
        "istiod_host": istiod["host"],
        "istiod_address": istiod["address"],
        "istiod_port": istiod["port"],
        "clock_port": 15017,
        "istio_version": "1.31.1",
        "address": vm.address,
    }
    return DesiredHost(**{**given, **changes})


def run_configure(vm: VmSpec, host: DesiredHost, user: str = "root") -> subprocess.CompletedProcess[str]:
    """Do what the stack does first on a VM: send what is missing there, and configure it."""

    def ssh(command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(ssh_argv(vm.address, [command], user), input=stdin, capture_output=True, timeout=120)

    wanted = uploads(host)
    for upload in missing(wanted, ssh(present_command(wanted)).stdout.decode()):
        content = Path(upload.file).read_bytes() if upload.file else upload.content
        assert content
        sent = ssh(receive_command(upload), content)
        assert sent.returncode == 0, sent.stderr
    step = configure(host)
    done = ssh(step.command, step.stdin.encode())
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def problems(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Fact by code of the one report of a host that was refused."""
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    report = json.loads(line)
    return {problem["code"]: problem["fact"] for problem in (report, *report.get("more", []))}


def on_vm(lab: Lab, vm: VmSpec, script: str, stdin: str = "") -> str:
    """Run a script on a VM, and fail the test where it fails."""
    done = lab.vm_exec(vm.name, ["sh", "-euc", script], stdin=stdin, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def disk(lab: Lab, vm: VmSpec) -> dict[str, tuple[Any, ...]]:
    """Everything on a VM's disk but its logs: kind, mode and owner of each path; size, time and inode of each file."""
    root, found = lab.vm_root(vm.name), {}
    for folder, folders, files in os.walk(root):
        here = os.path.relpath(folder, root)
        folders[:] = [name for name in folders if os.path.normpath(f"{here}/{name}") not in NOT_DISK]
        for name in (*folders, *files):
            at = os.lstat(f"{folder}/{name}")
            change = () if stat.S_ISDIR(at.st_mode) else (at.st_size, at.st_mtime_ns, at.st_ino)
            found[os.path.normpath(f"{here}/{name}")] = (oct(at.st_mode), at.st_uid, at.st_gid, *change)
    return found


def as_file(package: Path) -> dict[str, str]:
    """A package where Pulumi runs, as a stack file names it."""
    with package.open("rb") as content:
        return {"file": str(package), "sha256": hashlib.file_digest(content, "sha256").hexdigest()}
