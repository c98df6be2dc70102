"""Routes of a VM on a kernel's table that is a file: what is refused, what is tried, and what is left."""

import dataclasses
import os
import subprocess
from pathlib import Path

import pytest
from host_program import GOOD, HOST, on_host, program_on, told

from hosts.plan import PROGRAM, DesiredHost, Route, state_text

SHELLS = pytest.mark.parametrize("shell", ["dash", "bash"])
UNIT = "etc/systemd/system/istio-vm-mesh-routes.service"
TABLE = """default via 10.77.0.5 dev host0
10.77.0.0/24 dev host0 proto kernel scope link src 10.77.0.21
10.50.0.0/16 via 10.77.0.10 dev host0
"""
KERNEL = rf"""
table=$root/table
match() {{ while read -r line; do set -- $line; range=$1; [ "$range" != default ] || range=0.0.0.0/0
	! within "$to" "$range" || printf '%s\n' "$line"; done <"$table"; }}
bits() {{ awk '{{ split($1, r, "/"); print $1 == "default" ? 0 : r[2] == "" ? 32 : r[2], $0 }}'; }}
best() {{ match | bits | sort -n | tail -1 | cut -d' ' -f2-; }}
case "$*" in
	'-o addr') {GOOD["ip"]} ;;
	'-4 route get '*) to=$4 line=$(best); set -- $line
		case $line in *' via '*) echo "$to via $3 dev host0 src 10.77.0.21" ;; *) echo "$to dev host0 src" ;; esac ;;
	'-4 route show match '*) to=$5; match ;;
	'-4 route show proto '*) grep " proto $5 " "$table" || : ;;
	'-4 route show '*' proto '*) grep "^$4 " "$table" | grep " proto $6 " || : ;;
	'-4 route show '*' via '*) grep "^$4 via $6 " "$table" || : ;;
	'-4 route show '*) grep "^$4 " "$table" || : ;;
	'-4 route add '*) if grep -q "^$4 " "$table"; then echo 'RTNETLINK answers: File exists' >&2; return 2; fi
		echo "$4 via $6 dev host0 proto $8 " >>"$table"; echo "$*" >>"$root/log" ;;
	'-4 route replace '*) sed -i "s|^$4 .*|$4 via $6 dev host0 proto $8 |" "$table"; echo "$*" >>"$root/log" ;;
	'-4 route del '*) sed -i "\|^$4 via $6 |d" "$table"; echo "$*" >>"$root/log" ;;
	'-4 route flush proto '*) sed -i "/ proto $5 /d" "$table"; echo "$*" >>"$root/log" ;;
	*) echo "ip $*: not known here" >&2; return 1 ;;
esac"""
PROGRAMS = {
    "ip": KERNEL,
    "ssh_client": "echo 10.77.0.254",
    "systemctl": 'echo "systemctl $*" >>"$root/log"; case $1 in reload-or-restart) (set_routes) ;; esac',
}


def host(*routes: str) -> DesiredHost:
    """The host with routes, each `RANGE ROUTER`."""
    pairs = [route.split() for route in routes]
    return dataclasses.replace(HOST, routes=[Route(to=to, via=via) for to, via in pairs])


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "table").write_text(TABLE)
    (tmp_path / "log").touch()
    return tmp_path / "table"


@SHELLS
def test_routes_are_set_kept_changed_and_taken_away(shell: str, tmp_path: Path, table: Path) -> None:
    def run(desired: DesiredHost, statements: str) -> tuple[str, list[str]]:
        (tmp_path / "log").write_text("")
        done = on_host(shell, tmp_path, statements, programs=PROGRAMS, desired=desired)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode(), (tmp_path / "log").read_text().splitlines()

    first = host("10.244.0.0/16 10.77.0.10", "10.96.5.5/32 10.77.0.10", "10.50.0.0/16 10.77.0.10")
    said, done = run(first, "install_routes")
    assert said == f"changed {tmp_path}/{UNIT}\n"
    assert done == [
        "systemctl daemon-reload",
        "systemctl -q enable istio-vm-mesh-routes",
        "systemctl reload-or-restart istio-vm-mesh-routes",
        "-4 route add 10.244.0.0/16 via 10.77.0.10 proto 151",
        "-4 route add 10.96.5.5 via 10.77.0.10 proto 151",
    ], "the one that is there already is somebody else's"
    said, done = run(first, "install_routes")
    assert (said, [line for line in done if "-4" in line]) == ("", [])

    second = host("10.244.0.0/16 10.77.0.11", "10.97.0.0/16 10.77.0.10")
    _, done = run(second, "install_routes")
    assert [line for line in done if "-4" in line] == [
        "-4 route replace 10.244.0.0/16 via 10.77.0.11 proto 151",
        "-4 route add 10.97.0.0/16 via 10.77.0.10 proto 151",
        "-4 route del 10.96.5.5 via 10.77.0.10 proto 151",
    ]
    said, done = run(HOST, "install_routes")
    assert said == "removed the routes\n"
    assert done[0] == "systemctl -q disable --now istio-vm-mesh-routes"
    assert table.read_text() == TABLE
    assert not (tmp_path / UNIT).exists()
    assert run(HOST, "install_routes; unroute") == ("", [])


@pytest.mark.parametrize(
    ("route", "code", "fact"),
    [
        ("10.244.0.0/16 10.77.0.10", "", ""),
        ("10.244.0.0/16 10.99.0.1", "route-router", "10.99.0.1 via 10.77.0.5 dev host0"),
        ("10.50.0.0/16 10.77.0.10", "", ""),
        ("10.50.0.0/16 10.77.0.11", "route-taken", "10.50.0.0/16 via 10.77.0.10 dev host0"),
        ("10.0.0.0/8 10.77.0.10", "", ""),
        ("10.77.0.128/25 10.77.0.10", "route-captures-ssh", "would take the answers to 10.77.0.254"),
        ("10.77.0.254/32 10.77.0.10", "route-captures-ssh", "would take the answers to 10.77.0.254"),
        ("10.77.0.128/26 10.77.0.10", "", ""),
    ],
)  # fmt: skip
def test_a_route_that_would_do_harm_is_refused(tmp_path: Path, table: Path, route: str, code: str, fact: str) -> None:
    done = on_host("dash", tmp_path, "checks", programs=PROGRAMS, desired=host(route))
    if code:
        (problem,) = told(done)
        assert (problem["code"], bool(problem["hint"])) == (code, True)
        assert fact in problem["fact"]
        assert (tmp_path / "log").read_text() == "", "nothing was tried"
    else:
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("way", "route", "captures"),
    [
        ("192.0.2.0/24 via 10.77.0.9 dev host0", "192.0.2.0/24 10.77.0.9", False),
        ("192.0.2.0/24 via 10.77.0.9 dev host0", "192.0.2.0/25 10.77.0.9", False),
        ("192.0.2.0/24 via 10.77.0.9 dev host0", "192.0.2.0/25 10.77.0.10", True),
        ("192.0.2.0/24 via 10.77.0.9 dev host0", "192.0.2.0/24 10.77.0.10", True),
        ("192.0.2.0/24 via 10.77.0.9 dev host0", "192.0.0.0/16 10.77.0.10", False),
        ("192.0.2.7 via 10.77.0.9 dev host0", "192.0.2.0/25 10.77.0.10", False),
        ("", "192.0.0.0/16 10.77.0.10", True),
        ("", "192.0.0.0/16 10.77.0.5", False),
        ("", "192.0.2.8/29 10.77.0.10", False),
    ],
)
def test_a_client_from_afar_keeps_its_way(tmp_path: Path, table: Path, way: str, route: str, captures: bool) -> None:
    table.write_text(f"{TABLE}{way}\n" if way else TABLE)
    programs = {**PROGRAMS, "ssh_client": "echo 192.0.2.7"}
    done = on_host(
        "bash", tmp_path, f"captures {route} 192.0.2.7 && echo captures || :", programs=programs, desired=host(route)
    )
    assert (done.stdout.decode() == "captures\n") == captures


@SHELLS
def test_what_was_tried_is_taken_back_if_the_host_is_refused(shell: str, tmp_path: Path, table: Path) -> None:
    """Istiod is looked for over the routes; a host that fails another check has none of them afterwards."""
    desired = host("10.244.0.0/16 10.77.0.10")
    seen = f'case $* in *15012*) cp "$root/table" "$root/seen" ;; esac; {GOOD["curl"]}'
    programs = {**PROGRAMS, "curl": seen, "df": "echo; echo /dev/a 9 9 1000 9 /"}
    done = on_host(shell, tmp_path, "trap 'untry' EXIT; checks", programs=programs, desired=desired)
    assert [problem["code"] for problem in told(done)] == ["disk-full"]
    assert "10.244.0.0/16 via 10.77.0.10 dev host0 proto 151" in (tmp_path / "seen").read_text()
    assert table.read_text() == TABLE
    assert b"trap 'untry; " in PROGRAM


def test_the_client_is_that_of_the_session_even_through_sudo(tmp_path: Path) -> None:
    functions = program_on(tmp_path).partition("\ncase ${1-}-${2-} in\n")[0]
    (tmp_path / "inner").write_text(f"{functions}\nssh_client\n")
    (tmp_path / "session").write_text('env -i PATH="$PATH" dash "$(dirname "$0")/inner"\ntrue\n')
    environment = {**os.environ, "SSH_CONNECTION": "192.0.2.7 4242 10.77.0.21 22"}
    done = subprocess.run(["dash", tmp_path / "session"], env=environment, capture_output=True, timeout=20)
    assert (done.stdout, done.stderr) == (b"192.0.2.7", b"")


def test_a_unit_that_outlives_its_routes_ends_at_once(tmp_path: Path, table: Path) -> None:
    table.write_text(f"{TABLE}10.96.5.5 via 10.77.0.10 dev host0 proto 151 \n")
    done = on_host("dash", tmp_path, "set_routes", programs=PROGRAMS)
    assert (done.returncode, table.read_text()) == (0, TABLE)


def test_routes_stand_in_the_unit_and_in_the_settings() -> None:
    text = state_text(host("10.96.5.5/32 10.77.0.10"))
    assert "route: 10.96.5.5 10.77.0.10\n" in text
    assert f"{UNIT.rpartition('/')[2]}: # 10.96.5.5 via 10.77.0.10\n" in text
    assert UNIT not in state_text(HOST)
