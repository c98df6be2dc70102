"""What a VM takes back of a start that nobody confirmed, and puts back when it leaves: its program, on a folder."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from host_program import HOST, on_host, program_on

from hosts.observe import found
from hosts.plan import state_text

pytestmark = pytest.mark.parametrize("shell", ["dash"])

STATE = Path("var/lib/istio-vm-mesh")
RECORDED = {
    "systemctl": 'echo "systemctl $*" >>"$root/log"; case $1 in is-active) return 3 ;; esac',
    "sed": 'command sed "$@"',
    "untrack": 'echo untrack >>"$root/log"',
    "clean_rules": 'echo clean_rules >>"$root/log"',
}
BLOCK = "127.0.0.1 localhost\n# istio-vm-mesh begin\n10.77.0.200 istiod.istio-system.svc\n# istio-vm-mesh end\n"


def unconfirmed(folder: Path, text: str, stamp: str = "5-5") -> None:
    (folder / STATE).mkdir(parents=True)
    (folder / STATE / "unconfirmed").write_text(text)
    (folder / "run/istio-vm-mesh").mkdir(parents=True)
    (folder / "run/istio-vm-mesh/timer").write_text(f"{stamp}\n")
    (folder / "etc").mkdir()
    (folder / "etc/hosts").write_text(BLOCK)


def log(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines() if (folder / "log").exists() else []


def test_a_first_start_that_nobody_confirms_leaves_the_host_as_before(shell: str, tmp_path: Path) -> None:
    unconfirmed(tmp_path, "inactive disabled answers\n")
    done = on_host(shell, tmp_path, "time_is_up 5-5", programs=RECORDED)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "etc/hosts").read_text() == "127.0.0.1 localhost\n"
    assert log(tmp_path) == [
        "systemctl stop --no-block istio",
        "clean_rules",
        "systemctl stop istio",
        "clean_rules",
        "systemctl -q disable istio",
        "untrack",
        "systemctl stop istio-vm-mesh-takeback-*.timer",
    ]
    assert not (tmp_path / STATE / "unconfirmed").exists()
    told = on_host(shell, tmp_path, "tell_taken_back", programs=RECORDED)
    assert json.loads(told.stderr) == {
        "vm": "billing-1",
        "code": "taken-back",
        "fact": "nobody confirmed it over a new ssh connection within 120 s: redirection, DNS capture and the block in "
        "/etc/hosts were taken back; the sidecar was stopped and disabled",
        "hint": "correct what kept ssh or the sidecar from working, then run up again",
    }
    assert on_host(shell, tmp_path, "tell_taken_back", programs=RECORDED).returncode == 0, "once is enough"


def test_a_changed_sidecar_that_nobody_confirms_goes_back_to_what_was_confirmed(shell: str, tmp_path: Path) -> None:
    unconfirmed(tmp_path, "active enabled answers\n")
    before = dataclasses.replace(HOST, files=dataclasses.replace(HOST.files, cluster_env="BEFORE='1'\n"))
    (tmp_path / STATE / "confirmed").write_text(program_on(tmp_path))
    (tmp_path / STATE / "confirmed.desired").write_text(state_text(before))
    (tmp_path / STATE / "certs").mkdir()
    (tmp_path / STATE / "certs/key.pem").write_text("the key before")
    (tmp_path / "etc/certs").mkdir()
    (tmp_path / STATE / "rules").write_text("iptables: nat: the rules before\n")
    programs = {**RECORDED, "facts_rules": "echo 'iptables: nat: the rules before'"}
    done = on_host(shell, tmp_path, "time_is_up 5-5", programs=programs)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "var/lib/istio/envoy/cluster.env").read_text() == "BEFORE='1'\n"
    assert (tmp_path / "etc/certs/key.pem").read_text() == "the key before"
    assert (tmp_path / "etc/hosts").read_text() == BLOCK
    assert log(tmp_path)[-2:] == ["systemctl start --no-block istio", "systemctl stop istio-vm-mesh-takeback-*.timer"]
    assert "untrack" not in log(tmp_path)
    assert (tmp_path / STATE / "taken-back").read_text().endswith("was restored; the sidecar runs with it again\n")


@pytest.mark.parametrize(
    ("text", "stamp"), [("", "5-5"), ("active enabled", "9-9")], ids=["confirmed", "another start"]
)
def test_a_timer_that_is_late_does_nothing(shell: str, tmp_path: Path, text: str, stamp: str) -> None:
    unconfirmed(tmp_path, text, stamp)
    if not text:
        (tmp_path / STATE / "unconfirmed").unlink()
    assert on_host(shell, tmp_path, "time_is_up 5-5", programs=RECORDED).returncode == 0
    assert log(tmp_path) == []
    assert (tmp_path / "etc/hosts").read_text() == BLOCK


def test_a_start_that_was_taken_back_shows_as_a_change_of_the_vm(shell: str, tmp_path: Path) -> None:
    (tmp_path / STATE).mkdir(parents=True)
    (tmp_path / STATE / "told").write_text("not ready after 60 s: redirection was taken back\n")
    done = on_host(shell, tmp_path, "observe", programs={"date": "echo left 2026-11-21T12:00:00Z"})
    look = found(0, "1 2\n" + done.stdout.decode(), "", now=datetime(2026, 11, 21, tzinfo=UTC))
    assert look.drift == ("start + not ready after 60 s: redirection was taken back",)
    assert look.mark, "so that the VM is enrolled again"


SAVED = """\
# Generated by iptables-save v1.8.9 (nf_tables) on Mon Nov 30 22:00:00 2026
*nat
:OUTPUT ACCEPT [0:0]
:ISTIO_OUTPUT - [0:0]
-A OUTPUT -j ISTIO_OUTPUT
-A OUTPUT -d 9.9.9.9 -j ACCEPT
COMMIT
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -m comment --comment istio-vm-mesh
COMMIT
"""


def tools(folder: Path, **programs: str) -> Path:
    """A folder of programs for PATH."""
    (folder / "tools").mkdir()
    for name, text in programs.items():
        program = folder / "tools" / name.replace("_", "-")
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    return folder / "tools"


def test_rules_are_told_by_tool_and_table_in_an_order_that_does_not_change(shell: str, tmp_path: Path) -> None:
    saved = f"cat <<'END'\n{SAVED}END"
    path = tools(tmp_path, iptables_save=saved, ip6tables_legacy_save=saved)
    missing = frozenset({"iptables-legacy-save", "ip6tables-save"})
    done = on_host(shell, tmp_path, f"PATH={path}:$PATH; facts_rules", missing=missing)
    assert done.stdout.decode().splitlines() == [
        "iptables: raw: -A PREROUTING -m comment --comment istio-vm-mesh",
        "iptables: nat: -N ISTIO_OUTPUT",
        "iptables: nat: -A OUTPUT -j ISTIO_OUTPUT",
        "ip6tables-legacy: raw: -A PREROUTING -m comment --comment istio-vm-mesh",
        "ip6tables-legacy: nat: -N ISTIO_OUTPUT",
        "ip6tables-legacy: nat: -A OUTPUT -j ISTIO_OUTPUT",
    ], done.stderr


def test_rules_go_by_name_where_the_sidecars_program_leaves_some(shell: str, tmp_path: Path) -> None:
    tool = f'echo "$*" >>"{tmp_path}/log"; case $* in *-X*) : >{tmp_path}/gone ;; esac'
    saved = f"[ -e {tmp_path}/gone ] || cat <<'END'\n{SAVED}END"
    path = tools(tmp_path, iptables=tool, iptables_save=saved, ip="exit 2", nft=":")
    statements = f"unset -f iptables ip; PATH={path}:$PATH; clean_rules && echo clean"
    gone = {"istio-start.sh", "iptables-legacy-save", "ip6tables-save", "ip6tables-legacy-save"}
    done = on_host(shell, tmp_path, statements, missing=frozenset(gone))
    assert done.stdout == b"clean\n", done.stderr
    assert log(tmp_path) == ["-w 10 -t nat -D OUTPUT -j ISTIO_OUTPUT", "-w 10 -t nat -X ISTIO_OUTPUT"]


def test_what_was_there_before_joining_is_there_again_after_leaving(shell: str, tmp_path: Path) -> None:
    certs, own = tmp_path / "etc/certs", tmp_path / "etc/certs/root-cert.pem"
    certs.mkdir(parents=True)
    own.write_text("somebody's own")
    own.chmod(0o640)
    programs = {"systemctl": "return 1", "id": "return 1", "getent": "return 1"}
    statements = 'keep_before; write_files >/dev/null; keep_before; tar -C "$root/" -xpf "$state/before.tar"'
    done = on_host(
        shell, tmp_path, f"{statements}; cat \"$state/before\"; had 'package .' || echo none", programs=programs
    )
    assert done.stdout == b"package \nunit  \nnone\n", done.stderr
    assert own.read_text() == "somebody's own"
    assert own.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / STATE / "before.tar").stat().st_mode & 0o777 == 0o600


def test_a_sidecar_that_leaves_waits_until_the_mesh_has_forgotten_it(shell: str, tmp_path: Path) -> None:
    line = "outbound|80||billing.vm-apps.svc.cluster.local::10.77.0.21:8080::health_flags::healthy"
    programs = {
        "date": 'cat "$root/now"; echo $(($(cat "$root/now") + 1)) >"$root/now"',
        "sleep": 'echo slept >>"$root/log"',
        "curl": f'[ "$(cat "$root/now")" -ge "$until" ] || echo "{line}"',
    }
    for until, slept, said in ((104, 3, b""), (999, 9, b"the mesh still lists this VM; stopping all the same\n")):
        (tmp_path / "now").write_text("100\n")
        (tmp_path / "log").unlink(missing_ok=True)
        done = on_host(shell, tmp_path, f"until={until}; forgotten", programs=programs)
        assert (done.returncode, done.stdout, log(tmp_path)) == (0, said, ["slept"] * slept)
