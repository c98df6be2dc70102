"""A host's program in a test's hands: its functions under a real shell, on a folder that stands for `/`."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hosts.plan import PROGRAM, DesiredHost, Package, state_text
from hosts.sidecar_files import SidecarFiles

CONTENT = b"a package with GLIBC_2.2.5 and GLIBC_2.30\n"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HOST = DesiredHost(
    vm="billing-1",
    files=SidecarFiles(
        mesh_yaml="defaultConfig:\n  meshId: mesh1\n",
        cluster_env="ISTIO_INBOUND_PORTS='8080'\nISTIO_LOCAL_EXCLUDE_PORTS='22,15090,15021,15020'\n"
        "ISTIO_META_DNS_CAPTURE='true'\n",
        hosts="10.77.0.200 istiod.istio-system.svc\n",
        root_certificate="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ),
    packages={
        "deb-amd64": Package(url="http://mirror/istio-sidecar.deb", sha256=DIGEST),
        "rpm-arm64": Package(url="http://mirror/istio-sidecar-arm64.rpm", sha256=DIGEST),
    },
    istiod_host="istiod.istio-system.svc",
    istiod_address="10.77.0.200",
    istiod_port=15012,
    address="10.77.0.21",
    clock_port=15017,
    istio_version="1.31.1",
)
GOOD = {
    "id": 'if [ "${1-}" = -u ]; then echo 0; else return 1; fi',
    "ip": 'printf "1: lo inet 127.0.0.1/8 scope\\n2: host0 inet 10.77.0.21/24 brd\\n"',
    "ss": 'printf "tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:((\\"sshd\\",pid=9,fd=3))\\n"',
    "iptables": ":",
    "sudo": ":",
    "hostname": "echo 10.77.0.21",
    "df": 'printf "Filesystem\\n/dev/a 9 9 5000000 9 /\\n"',
    "getconf": "echo glibc 2.36",
    "date": "echo 1700000000",
    "curl": 'case "$*" in *15017*) echo "date: now" ;; *.deb | *.rpm) put_package "$@" ;; esac',
    "put_package": 'while [ "$1" != -o ]; do shift; done; cp "$root/mirror" "$2"',
    "dpkg-query": 'case "$*" in "-W dpkg") ;; *) return 1 ;; esac',
    "dpkg": 'case $1 in --print-architecture) echo amd64 ;; *) echo "dpkg $*" >>"$root/log" ;; esac',
    "dpkg-deb": 'case $1 in --show) printf "istio-sidecar amd64 1.31.1" ;; '
    ' *) tar -c --absolute-names --transform "s|.*|./usr/local/bin/envoy|" "$2" ;; esac',
    "rpm": "return 1",
}
"""Programs of a host that lacks nothing, as bodies of shell functions."""
RPM = {
    "dpkg-query": "return 1",
    "rpm": 'case $1 in --eval) echo aarch64 ;; -qp) printf "istio-sidecar aarch64 1.31.0" ;; -q) return 1 ;;'
    ' *) echo "rpm $*" >>"$root/log" ;; esac',
    "rpm2cpio": 'cat "$1"',
}
"""What a host of the other family has instead."""


def program_on(folder: Path) -> str:
    """The program, with a folder that stands for `/`, and no owners."""
    head, root, rest = PROGRAM.decode().partition("\nroot='' ")
    assert root
    return f"{head}\nchown() {{ :; }}\nroot={shlex.quote(str(folder))} {rest}"


def run(
    shell: str, folder: Path, desired: DesiredHost, statements: str, *, beside: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run statements after the program's functions; program and desired state lie in the folder, or beside a path."""
    functions, main, _ = program_on(folder).partition("\ncase ${1-}-${2-} in\n")
    assert main
    place = beside or folder / "program"
    program, state = place.with_suffix(".sh"), place.with_suffix(".desired")
    state.write_bytes(state_text(desired).encode())
    read = f"desired={shlex.quote(str(state))}\nread_settings"
    program.write_bytes(f"{functions}\n{read}\n{statements}\nexit\n".encode())
    return subprocess.run([shell, str(program)], capture_output=True, timeout=30, cwd=folder)


def on_host(
    shell: str,
    folder: Path,
    statements: str,
    *,
    programs: Mapping[str, str] | None = None,
    missing: frozenset[str] = frozenset(),
    desired: DesiredHost = HOST,
) -> subprocess.CompletedProcess[bytes]:
    """Run statements on a host whose programs are those of `GOOD` but for the given ones."""
    (folder / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    (folder / "etc").mkdir(exist_ok=True)
    for name, text in (("etc/hosts", "127.0.0.1 localhost\n"), ("etc/resolv.conf", "nameserver 10.0.0.2\n")):
        if not (folder / name).exists():
            (folder / name).write_text(text)
    if not (folder / "mirror").exists():
        (folder / "mirror").write_bytes(CONTENT)
    bodies = {name: body for name, body in {**GOOD, **(programs or {})}.items() if name not in missing}
    functions = "\n".join(f"{name}() {{ {body}\n}}" for name, body in bodies.items() if "-" not in name)
    # Names with a dash are none of a POSIX function: those are files.
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name, body in bodies.items():
        if "-" in name:
            text = body.replace("return 1", "exit 1")
            (tools / name).write_text(f"#!/bin/sh\n{text}\n")
            (tools / name).chmod(0o755)
    lacking = "".join(f" {name}) return 1 ;;" for name in sorted(missing))
    has = f'has() {{ case $1 in{lacking} *) command -v "$1" >/dev/null 2>&1 ;; esac; }}'
    return run(shell, folder, desired, f"{functions}\n{has}\nPATH={tools}:$PATH\nchoose_package\n{statements}")


def told(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    """The problems of a report, which is one line."""
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert done.stderr.count(b"\n") == 1, done.stderr
    report = json.loads(done.stderr)
    assert report.pop("vm") == "billing-1"
    more = report.pop("more", [])
    return [report, *more]
