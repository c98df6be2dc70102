"""The sidecar's package: which one a host takes, what is refused before it is installed, and how it is installed."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from host_program import CONTENT, DIGEST, HOST, RPM, on_host, told

from hosts.plan import Package

SHELLS = pytest.mark.parametrize("shell", ["dash", "bash"])
VERSIONS = [
    ("1.31.1", "1.31.1", False),
    ("1.31.1", "1.31.0", True),
    ("1.31.10", "1.31.9", True),
    ("1.9.10", "1.10.0", False),
    ("2.0", "1.31.1", True),
    ("1.31.0rc.0", "1.31.0", False),
    ("1.31.1-1", "1.31.1", False),
    ("1.31.1", "", True),
]
VERSION = 'case $1 in --show) printf "istio-sidecar amd64 1.31.2" ;; *) cat "$2" ;; esac'
INSTALLED = {
    "deb": {"dpkg-query": 'case "$*" in "-W dpkg") ;; *) echo "installed 1.31.1" ;; esac'},
    "rpm": {"rpm": 'case $1 in --eval) echo aarch64 ;; -q) echo "installed 1.31.0" ;; *) exit 9 ;; esac'},
}


def state(root: Path) -> dict[str, bytes]:
    """What the program keeps on a host."""
    folder = root / "var/lib/istio-vm-mesh"
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


@SHELLS
@pytest.mark.parametrize(
    ("family", "programs", "installs"),
    [
        ("deb", {}, "dpkg --force-confold -i {0}/var/lib/istio-vm-mesh/new.deb\n"),
        ("rpm", RPM, "rpm -U --oldpackage --replacepkgs {0}/var/lib/istio-vm-mesh/new.rpm\n"),
        # A tool of the other family is there too, but has not installed the system.
        ("deb", {"rpm": RPM["rpm"]}, "dpkg --force-confold -i {0}/var/lib/istio-vm-mesh/new.deb\n"),
    ],
)
def test_the_hosts_own_facts_choose_the_package_and_how_it_is_installed(
    shell: str, tmp_path: Path, family: str, programs: Mapping[str, str], installs: str
) -> None:
    # As the package managers do: what is asked after the installation is there.
    after = INSTALLED[family]
    query = "; ".join(f"{name}() {{ {body}\n}}" for name, body in after.items() if "-" not in name)
    tools = "".join(f"cat >bin/{name} <<'EOT'\n#!/bin/sh\n{body}\nEOT\n" for name, body in after.items() if "-" in name)
    install = f'checks; new=$state/new.$family; manager install "$new"\n{tools}{query}\ninstalled() {{ false; }}'
    finish = 'manager() { case $1 in install) ;; *) by_$([ $family = deb ] && echo dpkg || echo rpm) "$@" ;; esac; }'
    done = on_host(shell, tmp_path, f"{install}\n{finish}\ninstall_package\necho unit: $new_unit", programs=programs)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"\nunit: y\n"), "systemd has not heard of it yet"
    assert (tmp_path / "log").read_text() == installs.format(tmp_path)
    assert done.stdout.decode().strip().startswith("installed istio-sidecar 1.31.")
    assert state(tmp_path) == {"package": f"{DIGEST}\n".encode(), f"package.{family}": CONTENT}


@pytest.mark.parametrize(
    ("programs", "code", "fact"),
    [
        ({"curl": "case $* in *deb) echo 'curl: (22) 404'; return 22 ;; esac"}, "package-download", "curl: (22) 404"),
        ({"put_package": 'while [ "$1" != -o ]; do shift; done; echo other >"$2"'}, "package-checksum", "has SHA-256"),
        ({"dpkg-deb": "printf 'istio-sidecar arm64 1.31.1'"}, "package-wrong", "istio-sidecar arm64 1.31.1"),
        ({"dpkg-deb": "printf 'other amd64 1.31.1'"}, "package-wrong", "other amd64 1.31.1"),
        ({"dpkg-deb": "echo 'not a Debian archive' >&2; exit 2"}, "package-wrong", "not a Debian archive"),
        ({"getconf": "echo glibc 2.28"}, "libc", "need glibc 2.30, this VM has 2.28"),
        ({"getconf": "return 1"}, "libc", "need glibc 2.30, this VM has no glibc"),
        ({"dpkg-deb": VERSION}, "package-newer", "the sidecar is 1.31.2, istiod is 1.31.1"),
        ({"dpkg": "echo armhf"}, "architecture", "no deb for armhf"),
        (
            {"dpkg-query": "exit 1", "rpm": "case $1 in --eval) echo ppc64le ;; esac"},
            "architecture",
            "no rpm for ppc64",
        ),
    ],
)
def test_what_is_refused_before_anything_is_installed(
    tmp_path: Path, programs: Mapping[str, str], code: str, fact: str
) -> None:
    (problem,) = told(on_host("dash", tmp_path, "checks", programs=programs))
    assert problem["code"] == code
    assert fact in problem["fact"]
    assert state(tmp_path) == {}
    assert not (tmp_path / "var/lib/istio-vm-mesh").exists()


@SHELLS
def test_which_version_is_newer(shell: str, tmp_path: Path) -> None:
    asked = "\n".join(f"newer '{one}' '{other}' && echo newer || echo not" for one, other, _ in VERSIONS)
    done = on_host(shell, tmp_path, asked)
    assert done.stdout.decode().split() == ["newer" if newer else "not" for *_, newer in VERSIONS]


@SHELLS
def test_a_package_that_is_right_already_is_not_touched(shell: str, tmp_path: Path) -> None:
    folder = tmp_path / "var/lib/istio-vm-mesh"
    folder.mkdir(parents=True)
    (folder / "package").write_text(f"{DIGEST}\n")
    programs = {**INSTALLED["deb"], "curl": "case $* in *deb) exit 9 ;; esac"}
    done = on_host(shell, tmp_path, "checks; install_package", programs=programs)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert set(state(tmp_path)) == {"package"}


@pytest.mark.parametrize("where", ["copied", "kept", "nowhere"])
def test_a_package_from_the_operator_needs_no_download(tmp_path: Path, where: str) -> None:
    package = Package(file="packages/istio-sidecar.deb", sha256=DIGEST)
    assert package.copied == f"istio-vm-mesh-{DIGEST[:16]}.package"
    other = tmp_path / Package(file="packages/istio-sidecar.rpm", sha256="0" * 64).copied
    other.touch()
    if where == "copied":
        (tmp_path / package.copied).write_bytes(CONTENT)
    if where == "kept":
        (tmp_path / "var/lib/istio-vm-mesh").mkdir(parents=True)
        (tmp_path / "var/lib/istio-vm-mesh/package.deb").write_bytes(CONTENT)
    desired = dataclasses.replace(HOST, packages={"deb-amd64": package})
    programs: dict[str, Any] = {"curl": "case $* in *deb) exit 9 ;; esac"}
    done = on_host(
        "dash", tmp_path, "checks; keep_package() { :; }; install_package", programs=programs, desired=desired
    )
    if where == "nowhere":
        (problem,) = told(done)
        assert problem["code"] == "package-download"
        assert problem["fact"] == f"{package.copied} is not in {tmp_path}"
        assert other.exists(), "nothing has changed"
    else:
        assert (done.returncode, done.stderr) == (0, b"")
        assert state(tmp_path)["package.deb"] == CONTENT
        assert not list(tmp_path.glob("*.package")), "no copy is left, be it for another kind of host"


@pytest.mark.parametrize("before", ["", "1.30.0"])
def test_a_package_that_cannot_be_installed_says_why_and_does_not_count(tmp_path: Path, before: str) -> None:
    """Also where the one before it stays in its place."""
    programs = {
        "dpkg": "case $1 in --print*) echo amd64 ;; *) echo 'dependency problems'; return 1 ;; esac",
        "dpkg-query": f'case "$*" in "-W dpkg") ;; *) echo "installed {before}" ;; esac',
    }
    desired = dataclasses.replace(HOST, adopt=True)
    done = on_host("dash", tmp_path, "checks; install_package", programs=programs, desired=desired)
    (problem,) = told(done)
    assert (problem["code"], problem["fact"]) == ("package-install", "dependency problems")
    assert "package" not in state(tmp_path)


def test_a_lock_that_somebody_else_holds_is_waited_for(tmp_path: Path) -> None:
    programs = {
        "dpkg": "case $1 in --print*) echo amd64 ;; *) [ -e tried ] || { : >tried; echo 'the lock was locked';"
        ' return 2; }; echo "$*" >"$root/log" ;; esac',
        "sleep": ":",
    }
    assert on_host("dash", tmp_path, "checks; install_package", programs=programs).stderr == b""
    assert (tmp_path / "log").exists()
