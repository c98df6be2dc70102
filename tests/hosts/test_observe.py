"""What a VM answers when it is looked at, from the shell program itself, and what is made of it."""

import dataclasses
import functools
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from host_program import HOST, run
from hypothesis import given
from hypothesis import strategies as st

from hosts.observe import Certificate, Found, found
from hosts.plan import HELPER, STATE, configure, confirm, enrol

SHELLS = ["dash", "bash"]
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
STUBS = """
has() { return 1; }
systemctl() { cat "$root/$1" 2>/dev/null || echo "$1 by default"; }
package_version() { cat "$root/version" 2>/dev/null || :; }
"""
SET_UP = """
(write_files; put "$state/desired" 644 root:root <"$desired"; put "$helper" 755 root:root <"$0") >/dev/null
remember configured; remember confirmed
"""


def answer(body: str, status: int | None = 0, stderr: str = "") -> Found:
    return found(status, f"123 45\n{body}", stderr, now=NOW)


@functools.cache
def set_up(shell: str, folder: Path) -> Path:
    """Make a folder a VM that has just been set up, of which tests take copies."""
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (folder / "version").write_text("1.31.1\n")
    assert run(shell, folder, HOST, STUBS + SET_UP).stderr == b""
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the VMs are made that are copied."""
    return tmp_path_factory.mktemp("set-up")


def look(shell: str, folders: Path, folder: Path, change: Callable[[Path], object] = lambda folder: None) -> Found:
    """Take a folder that was set up as a VM, change something in it, and look at it."""
    shutil.copytree(set_up(shell, folders / shell), folder, dirs_exist_ok=True)
    change(folder)
    done = run(shell, folder, HOST, STUBS + "observe")
    assert done.stderr == b""
    return answer(done.stdout.decode())


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_has_changed(shell: str, folders: Path, tmp_path: Path) -> None:
    """These files have no certificate: the VM is as it was left, and has none."""
    assert look(shell, folders, tmp_path) == Found(bare=True)


def edit(path: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / path
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    return change


CHANGES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "a line": (
        edit("etc/istio/config/mesh", "mesh1", "mesh2"),
        ["/etc/istio/config/mesh:2 -   meshId: mesh1", "/etc/istio/config/mesh:2 +   meshId: mesh2"],
    ),
    "a line more": (
        edit("var/lib/istio/envoy/cluster.env", "ISTIO_LOCAL", "X='2'\nISTIO_LOCAL"),
        ["/var/lib/istio/envoy/cluster.env:2 + X='2'"],
    ),
    "a file": (
        lambda folder: (folder / "etc/certs/root-cert.pem").unlink(),
        ["/etc/certs/root-cert.pem - there", "/etc/certs/root-cert.pem + missing"],
    ),
    "a mode": (
        lambda folder: (folder / "etc/istio/config/mesh").chmod(0o600),
        ["/etc/istio/config/mesh mode - 644", "/etc/istio/config/mesh mode + 600"],
    ),
    "the block": (
        lambda folder: (folder / "etc/hosts").write_text("127.0.0.1 localhost\n"),
        [
            "/etc/hosts block:1 - # istio-vm-mesh begin",
            "/etc/hosts block:2 - 10.77.0.200 istiod.istio-system.svc",
            "/etc/hosts block:3 - # istio-vm-mesh end",
        ],
    ),
    "the program": (
        edit(HELPER[1:], "set -eu", "set -u"),
        [f"{HELPER} - ", f"{HELPER} + "],
    ),
    "what it is to become": (
        edit(f"{STATE[1:]}/desired", "vm: billing-1", "vm: billing-2"),
        [f"{STATE}/desired - ", f"{STATE}/desired + "],
    ),
    "the package": (
        lambda folder: (folder / "version").unlink(),
        ["package - istio-sidecar 1.31.1", "package + istio-sidecar"],
    ),
    "the unit": (
        lambda folder: (folder / "is-active").write_text("inactive\n"),
        ["istio.service - is-active by default", "istio.service + inactive"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_named_by_file_and_line(change: str, folders: Path, tmp_path: Path) -> None:
    act, expected = CHANGES[change]
    seen = look("dash", folders, tmp_path, act)
    assert len(seen.drift) == len(expected), seen.drift
    for line, start in zip(seen.drift, expected, strict=True):
        assert line.startswith(start)
    since = seen.record[0].partition(": ")[0]
    assert since.startswith("since 20")
    assert seen.record == tuple(f"{since}: {line}" for line in seen.drift)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_record_comes_back_as_it_was_given(shell: str, folders: Path, tmp_path: Path) -> None:
    """So a repaired VM gets the same command again, which is no change."""
    changed = look(shell, folders, tmp_path, edit("etc/istio/config/mesh", "mesh1", "$(touch x) `'\"\\ END\r\tä"))
    step = configure(HOST, changed.record)
    sent, starts, _ = step.command.partition("} | {\n")
    assert starts
    taken = f"{sent}}} | cat >{tmp_path}/taken"
    subprocess.run([shell, "-c", taken], input=step.stdin.encode(), check=True, timeout=10)
    lines = (tmp_path / "taken").read_text().removeprefix(step.stdin).splitlines()
    told = "\n".join(line.replace("drift: ", "record ", 1) for line in lines)
    assert answer(f"{told}\nend\n") == Found(record=changed.record)
    assert not (tmp_path / "x").exists()


@given(st.lists(st.text(max_size=300).map(lambda text: text.replace("\n", "")), max_size=60))
def test_any_record_is_short_printable_and_stays_as_it_is(lines: list[str]) -> None:
    first = answer("\n".join(["left x", *(f"is /f: {line}" for line in lines), "end\n"])).record
    assert len(first) <= 42
    assert all(line.isprintable() and len(line) <= 200 for line in first)
    again = answer("\n".join([*(f"record {line}" for line in first), "end\n"]))
    assert again == Found(record=first)


def test_steps_run_again_after_a_repair_and_not_without_one() -> None:
    blank = Found()
    assert configure(HOST, blank.record) == configure(HOST)
    assert (enrol(HOST, blank.mark), confirm(HOST, blank.mark)) == (enrol(HOST), confirm(HOST))
    marks = {dataclasses.replace(blank, record=(text,)).mark for text in ("a", "b")}
    assert len({enrol(HOST, mark).command for mark in (*marks, "")}) == 3
    assert configure(HOST, ("a",)).command != configure(HOST, ("b",)).command


def test_a_machine_that_was_never_set_up_or_is_as_before_is_told_apart_from_others() -> None:
    assert answer("blank\n") == Found(record=("nothing of istio-vm-mesh was here (123)",), bare=True)


def test_a_program_that_is_gone_or_broken_is_a_difference() -> None:
    gone = answer("gone\n")
    assert gone.drift == (f"{HELPER} - there", f"{HELPER} + missing")
    broken = answer("", 2, "sh: 3: Syntax error: newline unexpected")
    assert broken.drift == (f"{HELPER} + sh: 3: Syntax error: newline unexpected",)
    assert gone.record == tuple(f"since 123: {line}" for line in gone.drift)


def test_a_vm_that_says_why_it_does_not_answer_is_not_known() -> None:
    said = '{"vm":"billing-1","code":"locked","fact":"another run holds this VM","hint":"wait"}\n'
    assert answer("", 1, f"warning\n{said}") == Found(unknown="locked: another run holds this VM")


def test_a_version_that_cannot_be_looked_at_has_no_differences() -> None:
    assert answer("") == Found()


@given(
    st.lists(
        st.sampled_from(["was", "is", "left", "record", "certificate", "end", "x"]).flatmap(
            lambda kind: st.text(max_size=20).map(f"{kind} {{}}".format)
        ),
        max_size=8,
    ),
    st.sampled_from(["end\n", ""]),
)
def test_no_answer_of_a_vm_ends_the_program(lines: list[str], end: str) -> None:
    seen = answer("\n".join([*lines, end]))
    assert all(line.isprintable() for line in (*seen.record, *seen.drift))


def certificate(hour: int) -> str:
    """The lines of one with the serial number 10 that runs out at an hour of the day."""
    end = NOW.replace(hour=hour)
    name, key = x509.Name([]), ed25519.Ed25519PrivateKey.generate()
    made = x509.CertificateBuilder(name, name, key.public_key(), 10, end - timedelta(days=1), end).sign(key, None)
    return "".join(f"certificate {line}\n" for line in made.public_bytes(Encoding.PEM).decode().splitlines())


def test_a_certificate_is_told_and_counts_when_it_has_run_out() -> None:
    valid, expired = certificate(13), certificate(11)
    assert answer(f"{valid}end\n") == Found(certificate=Certificate(serial="0A", not_after="2026-11-21T13:00:00Z"))
    assert answer(f"left x\n{expired}end\n").drift == ("certificate + expired 2026-11-21T11:00:00Z",)
    assert answer(f"left x\n{expired}end\n").bare
    assert answer("certificate -----BEGIN\nend\n") == Found()


@pytest.mark.parametrize("drift", ["", "left x\nwas certificate: /etc/certs/key.pem\n"])
def test_a_vm_says_itself_that_it_has_no_certificate(drift: str) -> None:
    """Drifted or not: a start that was taken back, and whose VM then was left without one, is no drift from that."""
    assert answer(f"{drift}bare\nend\n").bare
    assert not answer(f"{drift}end\n").bare


def test_the_summary_names_the_places() -> None:
    seen = dataclasses.replace(Found(), drift=("/a:1 - x - y", "/a:1 + z", "b - 1", "c - 1", "d + 1"))
    assert seen.summary == "not as it was left: /a:1, b, c and 1 more"
    assert Found().summary == ""
