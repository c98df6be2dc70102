"""The way back of a change: the package before, under a real shell, with package managers that are made up."""

import hashlib
from pathlib import Path

import pytest
from host_program import CONTENT, DIGEST, HOST, on_host, told

from hosts.plan import state_text

STATE = "var/lib/istio-vm-mesh"
OLD = b"the package that was confirmed\n"
OLD_DIGEST = hashlib.sha256(OLD).hexdigest()
UPGRADE = f"""
mkdir -p $state; cp $root/mirror $state/new.deb; new=$state/new.deb
printf 'the package that was confirmed\\n' >$state/package.deb; echo {OLD_DIGEST} >$state/package
package_version() {{ sed -n 's/^dpkg .* -i .*\\///p' $root/log | tail -n 1; }}
"""


def kept(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / STATE).iterdir()}


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_the_confirmed_package_comes_back_and_the_other_stays_for_another_try(shell: str, tmp_path: Path) -> None:
    back = ": >$state/confirmed\ninstall_package\nput_package_back\ninstalled && echo wrong"
    done = on_host(shell, tmp_path, UPGRADE + back)
    assert done.stdout.decode().endswith("; the package is istio-sidecar previous.deb again\n")
    assert kept(tmp_path) == {
        "confirmed": b"",
        "package": f"{OLD_DIGEST}\n".encode(),
        "package.deb": OLD,
        "refused.deb": CONTENT,
    }


def test_another_try_needs_no_mirror(tmp_path: Path) -> None:
    back = ": >$state/confirmed\ninstall_package\nput_package_back\nurl=http://nowhere\n"
    done = on_host("dash", tmp_path, UPGRADE + back + "curl() { exit 9; }\nbring_package_back\ninstalled && echo right")
    assert done.stdout.decode().endswith("right\n"), done
    assert (tmp_path / STATE / "package").read_text() == f"{DIGEST}\n"
    assert (tmp_path / STATE / "previous.deb").read_bytes() == OLD


@pytest.mark.parametrize("before", ["", ": >$state/confirmed; echo even older >$state/previous.deb"])
def test_only_a_confirmed_package_is_one_to_go_back_to(tmp_path: Path, before: str) -> None:
    done = on_host("dash", tmp_path, f"{UPGRADE}{before}\ninstall_package\n")
    assert done.returncode == 0
    assert kept(tmp_path).get("previous.deb") == (b"even older\n" if before else None)


@pytest.mark.parametrize(
    ("ready", "first"),
    [
        ("ready() { :; }; as_configured() { :; }", ("not-back", "it is unhealthy")),
        ("systemctl() { return 3; }", ("sidecar-stopped", "istio.service is : ")),
    ],
)
def test_the_host_says_why_the_mesh_did_not_take_it_back(tmp_path: Path, ready: str, first: tuple[str, str]) -> None:
    back = 'take_back() { echo "$1: taken back" >$state/taken-back; }\nmkdir -p $state; : >$state/unconfirmed\n'
    done = on_host("dash", tmp_path, f"{back}{ready}\nnot_back 'it is unhealthy'")
    reason, more = told(done)
    assert (reason["code"], reason["fact"]) == first
    assert (more["code"], more["fact"]) == ("taken-back", "it is unhealthy: taken back")


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_the_host_starts_its_sidecar_again_once_for_each_time_that_it_is_told(shell: str, tmp_path: Path) -> None:
    functions = (
        "ready",
        "certified",
        "as_configured",
        "remember",
        "disarm",
        "forget_packages",
        "cp",
        "mv",
        "systemctl",
    )
    statements = [
        "mkdir -p $state; date() { echo 7; }; start() { echo started; }",
        *(f"{name}() {{ :; }}" for name in functions),
        *(f"{step} 2>&1 >/dev/null; echo end" for step in ("anew 11:00", "anew 11:00", "confirm", "anew 12:00")),
    ]
    done = on_host(shell, tmp_path, "\n".join(statements), missing=frozenset({"openssl"}))
    assert done.stdout.decode().split() == ["started", "end", "end", "end", "started", "end"], done.stderr


@pytest.mark.parametrize(
    ("step", "kept", "restarts"),
    [
        ("anew 11:00", "taken-back", True),
        ("confirm", "taken-back", False),
        ("not_back unhealthy", "taken-back", False),
        ("anew 11:00", "told", True),
        ("confirm", "told", False),
    ],
)
def test_a_host_that_went_back_by_itself_registers_again_as_it_is(
    tmp_path: Path, step: str, kept: str, restarts: bool
) -> None:
    calls = f'systemctl() {{ echo "$@" >>$state/calls; }}\nmkdir -p $state; echo "not proved" >$state/{kept}'
    done = on_host("dash", tmp_path, f"{calls}\n: >$state/calls\n{step}")
    (reason,) = told(done)
    assert (reason["code"], reason["fact"]) == ("taken-back", "not proved")
    assert ("try-restart istio" in (tmp_path / STATE / "calls").read_text()) == restarts


def test_a_host_that_was_told_of_and_proved_starts_once_under_the_word(tmp_path: Path) -> None:
    """Trying the change again is a start already."""
    statements = """
mkdir -p $state; : >$state/told; current >$state/proved
systemctl() { :; }; bring_back() { rm $state/told; }; take_identity() { :; }; start() { echo started; }
anew 11:00
"""
    done = on_host("dash", tmp_path, statements)
    assert (done.stdout, done.stderr) == (b"", b"started\n")
    assert (tmp_path / STATE / "anew").read_text() == "11:00\n"


def test_what_is_confirmed_is_kept_with_the_program_that_brings_it_back(tmp_path: Path) -> None:
    done = on_host("dash", tmp_path, "mkdir -p $state; keep_confirmed; cmp $0 $state/confirmed")
    assert done.returncode == 0, done.stdout
    assert kept(tmp_path)["confirmed.desired"].decode() == state_text(HOST)
    assert set(kept(tmp_path)) == {"confirmed", "confirmed.desired"}
