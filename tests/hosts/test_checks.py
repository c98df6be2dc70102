"""What must hold before anything changes: nothing is missed, everything is told at once, nothing is touched."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
from host_program import GOOD, HOST, RPM, on_host, told

from hosts.plan import DesiredHost

SHELLS = pytest.mark.parametrize("shell", ["dash", "bash"])
NO_ISTIOD = f"case $* in *15012*) echo 'curl: ({{0}}) no'; return {{0}} ;; esac; {GOOD['curl'].replace('{', '{{')}"
LISTEN = 'tcp LISTEN 0 128 {0}:* users:((\\"{1}\\",pid=9,fd=3))\\n'
ENVIRONMENT = HOST.files.cluster_env


def listening(*sockets: tuple[str, str]) -> dict[str, str]:
    """An `ss` that lists sockets by address and process."""
    return {"ss": f'printf "{"".join(LISTEN.format(f"{at} 0.0.0.0", name) for at, name in sockets)}"'}


def environment(text: str) -> DesiredHost:
    """The host with more, and other, lines in its cluster.env."""
    return dataclasses.replace(HOST, files=dataclasses.replace(HOST.files, cluster_env=text))


@SHELLS
@pytest.mark.parametrize("programs", [{}, RPM])
def test_a_host_that_lacks_nothing_passes_in_silence(shell: str, tmp_path: Path, programs: Mapping[str, str]) -> None:
    done = on_host(shell, tmp_path, "checks", programs=programs)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize(
    ("programs", "code", "fact"),
    [
        ({"df": "echo; echo /dev/a 9 9 1000 9 /"}, "disk-full", "1000 KB are free, 400000 are needed"),
        ({"ip": "echo 1: lo inet 127.0.0.1/8"}, "address", "is on none of this VM's interfaces (10.77.0.21)"),
        (listening(("*:15021", "nginx")), "port-taken", '15021 users:(("nginx",pid=9,fd=3))'),
        (listening(("[::]:15001", "envoy"), ("1.2.3.4:15020", "pilot-agent")), "", ""),
        (listening(("0.0.0.0:8080", "sshd")), "ssh-port", "sshd listens on 8080, which the sidecar would take over"),
        (listening(("0.0.0.0:8080", "hello"), ("0.0.0.0:2222", "sshd")), "", ""),
        ({"iptables": "echo 'Permission denied (you must be root)'; return 4"}, "packet-filter", "Permission denied"),
        ({"curl": NO_ISTIOD.format(7), "sleep": ":"}, "istiod-unreachable", "10.77.0.200:15012: curl: (7) no"),
        ({"curl": NO_ISTIOD.format(60), "sleep": ":"}, "istiod-untrusted", "curl: (60) no"),
        # The answer's date and the VM's, in that order.
        ({"date": "case $1 in -d) echo 1700003600 ;; *) echo 1700000000 ;; esac"}, "clock", "clock is -3600 s off"),
        ({"date": "case $1 in -d) echo 1700000000 ;; *) echo 1700000061 ;; esac"}, "clock", "clock is 61 s off"),
        ({"date": "case $1 in -d) echo 1700000060 ;; *) echo 1700000000 ;; esac"}, "", ""),
        ({"curl": 'case "$*" in *15017*) return 7 ;; *.deb) put_package "$@" ;; esac'}, "", ""),
    ],
)  # fmt: skip
def test_each_thing_that_a_sidecar_needs(tmp_path: Path, programs: Mapping[str, str], code: str, fact: str) -> None:
    done = on_host("dash", tmp_path, "checks", programs=programs)
    if code:
        (problem,) = told(done)
        assert problem["code"] == code
        assert fact in problem["fact"]
        assert problem["hint"]
    else:
        assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("resolv", "own_server", "changes", "code"),
    [
        ("nameserver 127.0.0.53\n", True, {}, None),
        ("# none\noptions edns0\n", False, {}, "resolvers"),
        ("nameserver 127.0.0.1\nnameserver 10.0.0.2 # upstream\n", True, {}, "dns-loop"),
        ("nameserver 127.0.0.53\nnameserver 10.0.0.2\n", True, {}, "dns-loop"),
        ("nameserver 10.77.0.21\nnameserver 10.0.0.2\n", True, {}, "dns-loop"),
        ("nameserver 127.0.0.1\nnameserver 10.0.0.2\n", False, {}, None),
        ("nameserver 10.0.0.2\nnameserver 10.0.0.3\n", True, {}, None),
        ("nameserver 127.0.0.53\n", True, {"add": "CAPTURE_ALL_DNS='true'\n"}, "dns-loop"),
        ("# none\n", False, {"without": "ISTIO_META_DNS_CAPTURE='true'\n"}, None),
    ],
)
def test_resolvers_that_dns_capture_would_turn_against_themselves(
    tmp_path: Path, resolv: str, own_server: bool, changes: Mapping[str, str], code: str | None
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text(resolv)
    text = ENVIRONMENT.replace(changes.get("without", "\0"), "") + changes.get("add", "")
    programs = listening(("127.0.0.1:53", "dnsmasq")) if own_server else {}
    done = on_host("dash", tmp_path, "checks", programs=programs, desired=environment(text))
    assert [problem["code"] for problem in told(done)] == [code] if code else done.returncode == 0


@pytest.mark.parametrize(("port", "code"), [(22, None), (2222, "ssh-port"), (15090, None)])
def test_a_workload_without_ports_takes_ssh_on_any_other_port(tmp_path: Path, port: int, code: str | None) -> None:
    desired = environment(ENVIRONMENT.replace("'8080'", "'*'"))
    name = "sshd" if port != 15090 else "envoy"
    done = on_host("dash", tmp_path, "checks", programs=listening((f"0.0.0.0:{port}", name)), desired=desired)
    assert [problem["code"] for problem in told(done)] == [code] if code else done.returncode == 0


@pytest.mark.parametrize(("adopt", "ours"), [(False, False), (True, False), (False, True)])
def test_somebody_elses_sidecar_is_refused_unless_it_is_to_be_adopted(tmp_path: Path, adopt: bool, ours: bool) -> None:
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    (tmp_path / "usr/local/bin/pilot-agent").touch()
    if ours:
        (tmp_path / "var/lib/istio-vm-mesh").mkdir(parents=True)
    programs = {"dpkg-query": 'case "$*" in "-W dpkg") ;; *) echo "installed 1.29.0" ;; esac'}
    desired = dataclasses.replace(HOST, adopt=adopt)
    done = on_host("dash", tmp_path, "checks", programs=programs, desired=desired)
    if adopt or ours:
        assert (done.returncode, done.stderr) == (0, b"")
        return
    (problem,) = told(done)
    assert problem["code"] == "foreign-sidecar"
    assert problem["fact"].endswith(" package istio-sidecar 1.29.0 /usr/local/bin/pilot-agent")
    assert "hosts.existingSidecar" in problem["hint"]


@pytest.mark.parametrize("native", ["false", "true"])
def test_the_packet_filter_that_the_agent_is_going_to_use(tmp_path: Path, native: str) -> None:
    desired = environment(f"{ENVIRONMENT}NATIVE_NFTABLES='{native}'\n")
    missing = frozenset({"iptables", "nft"})
    (problem,) = told(on_host("dash", tmp_path, "checks", missing=missing, desired=desired))
    assert problem["fact"] == f"{'nft' if native == 'true' else 'iptables'} is not installed"


@SHELLS
def test_everything_that_is_wrong_is_told_in_one_report(shell: str, tmp_path: Path) -> None:
    """And the host is as it was, the files that the shell itself needs aside."""
    programs = {
        **listening(("0.0.0.0:15006", "nginx"), ("0.0.0.0:8080", "sshd"), ("127.0.0.1:53", "dnsmasq")),
        "ip": "echo 1: lo inet 127.0.0.1/8",
        "df": "echo; echo /dev/a 9 9 1000 9 /",
        "curl": "case $* in *15012*) return 60 ;; *15017*) echo date: x ;; esac",
        "date": "case $1 in -d) echo 0 ;; *) echo 1700000000 ;; esac",
        "dpkg": "echo armhf",
        "iptables": "return 3",
        "sleep": ":",
    }
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").write_text("nameserver 127.0.0.1\nnameserver 10.0.0.2\n")
    (tmp_path / "etc/hosts").write_text("# istio-vm-mesh begin\n")
    (tmp_path / "lib/systemd/system").mkdir(parents=True)
    (tmp_path / "lib/systemd/system/istio.service").touch()
    done = on_host(
        shell, tmp_path, "rmdir $root/run/systemd/system; checks", programs=programs, missing=frozenset({"sudo"})
    )
    codes = [problem["code"] for problem in told(done)]
    assert codes == [
        *("no-systemd", "missing-tool", "hosts-block", "foreign-sidecar", "disk-full", "address", "port-taken"),
        *("ssh-port", "dns-loop", "istiod-untrusted", "clock", "architecture", "packet-filter"),
    ]
    assert not (tmp_path / "var").exists()


def test_what_needs_no_root_is_looked_at_without_its_rights(tmp_path: Path) -> None:
    programs = {"id": "echo 1000", "ip": "echo 1: lo inet 127.0.0.1/8", "iptables": "return 4", "sudo": "return 1"}
    done = on_host("dash", tmp_path, 'enter configure <"$desired"', programs=programs)
    assert [problem["code"] for problem in told(done)] == ["no-root", "address"]
    assert not (tmp_path / "var").exists()
