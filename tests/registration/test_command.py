"""`python -m registration`: a stack file and a mesh in, a table or JSON and an exit code out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import TOKEN, Api, serving
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from cluster.objects import ENTRIES
from hosts.observe import Certificate, Found
from observation import reader as reader_of_hosts
from registration import reader
from registration.__main__ import main
from registration.ladder import Reachability

KEY = ed25519.Ed25519PrivateKey.generate()
HOST_KEY = KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "id").write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    (tmp_path / "id").chmod(0o600)
    (tmp_path / "Pulumi.yaml").write_text("name: istio-vm-mesh\n")
    config = {
        "cluster": {"name": "cluster1", "network": "net1"},
        "istio": {"version": "1.31.1"},
        "hosts": {
            "sidecar": {"amd64": {"deb": {"url": "http://mirror/x.deb", "sha256": "0" * 64}}},
            "ssh": {"privateKeyFile": "id"},
        },
        "workloads": {
            "billing": {
                "namespace": "vm-apps",
                "serviceAccount": "billing",
                "probe": {"httpGet": {"port": 8080}},
                "vms": {"billing-1": {"address": "10.77.0.21", "hostKey": HOST_KEY}},
            }
        },
    }
    stack = tmp_path / "elsewhere"
    stack.mkdir()
    (stack / "Pulumi.dev.yaml").write_text(
        yaml.safe_dump({"config": {f"istio-vm-mesh:{k}": v for k, v in config.items()}})
    )
    monkeypatch.setattr(reader, "tcp_probe", lambda address, port: Reachability(reachable=False, detail="silent"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def api(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    (project / "api").mkdir()
    with serving(project / "api") as running:
        monkeypatch.setenv("KUBECONFIG", running.kubeconfig({"token": TOKEN}))
        yield running


def mesh(api: Api, *entries: dict[str, Any]) -> None:
    api.answer(ENTRIES, {"items": entries})


ENTRY: dict[str, Any] = {
    "metadata": {
        "name": "billing-10.77.0.21-net1",
        "namespace": "vm-apps",
        "creationTimestamp": "2026-11-21T11:00:00Z",
        "annotations": {"istio.io/connectedAt": "soon", "proxy.istio.io/health-checks-enabled": "true"},
    },
    "status": {"conditions": [{"type": "Healthy", "status": "True"}]},
}
STACK = ["--stack-file", "elsewhere/Pulumi.dev.yaml"]


def test_all_complete_is_0(project: Path, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    mesh(api, ENTRY)
    assert main(STACK) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1].split()[:4] == ["billing-1", "vm-apps/billing", "10.77.0.21", "healthy"]
    assert out[-1] == "1 VM: 1 healthy"


def test_one_that_is_not_is_1_and_has_a_reason_and_a_next_step(
    project: Path, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh(api)
    assert main([*STACK, "--json"]) == 1
    vm = json.loads(capsys.readouterr().out)["vms"]["billing-1"]
    assert (vm["state"], vm["reason"]) == ("unreachable", "silent")
    assert vm["hint"].startswith("check that billing-1 is on")


def test_what_has_changed_on_a_host_is_1_and_told_line_by_line(
    project: Path, api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh(api, ENTRY)
    drift = ("istio.service - active", "istio.service + inactive")
    certificate = Certificate(serial="0B", not_after="2999-01-01T00:00:00Z")
    found = {
        "billing-1": Found(record=tuple(f"since then: {line}" for line in drift), drift=drift, certificate=certificate)
    }
    monkeypatch.setattr(reader_of_hosts, "look", lambda targets: found)
    file = project / "elsewhere/Pulumi.dev.yaml"
    file.write_text(file.read_text().replace("sidecar:", "observe: true\n    sidecar:"))
    last = {"address": "10.77.0.21", "state": "healthy", "certificate": {"notAfter": "2998-01-01T00:00:00Z"}}
    (project / "outputs.json").write_text(json.dumps({"registration": {"vms": {"billing-1": last}}}))
    assert main([*STACK, "--json", "--outputs", "outputs.json"]) == 1
    captured = capsys.readouterr()
    vm = json.loads(captured.out)["vms"]["billing-1"]
    assert (vm["state"], vm["reason"]) == ("drifted", "not as it was left: istio.service")
    assert vm["certificate"] == {"serial": "0B", "notAfter": "2999-01-01T00:00:00Z"}
    assert captured.err.splitlines() == [f"vm billing-1: since then: {line}" for line in drift]
    found["billing-1"] = Found(unknown="ssh to 10.77.0.21:22: no answer within 9 s")
    assert main(STACK) == 0
    assert capsys.readouterr().err == "vm billing-1 was not looked at: ssh to 10.77.0.21:22: no answer within 9 s\n"


def test_no_api_is_1_and_said_on_standard_error(project: Path, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.answer(ENTRIES, {"message": "etcdserver: request timed out"}, 500)
    assert main(STACK) == 1
    captured = capsys.readouterr()
    assert captured.err == "error: the Kubernetes API refused: etcdserver: request timed out\n"
    assert captured.out.splitlines()[-1] == "1 VM: 1 unreachable"


def test_a_wrong_stack_file_is_2_with_every_problem(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--stack-file", "none.yaml"]) == 2
    assert "none.yaml: no such file" in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["", "{", "[]"])
def test_outputs_that_are_not_there_yet_do_no_harm(
    project: Path, api: Api, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    mesh(api, ENTRY)
    (project / "outputs.json").write_text(broken)
    assert main([*STACK, "--outputs", "outputs.json"]) == 0


def test_the_last_outputs_say_what_only_the_hosts_know(
    project: Path, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    mesh(api, ENTRY)
    last = {"address": "10.77.0.21", "state": "healthy", "certificate": {"notAfter": "2999-01-01T00:00:00Z"}}
    (project / "outputs.json").write_text(json.dumps({"registration": {"vms": {"billing-1": last}}}))
    main([*STACK, "--outputs", "outputs.json"])
    assert "2999-01-01 00:00:00" in capsys.readouterr().out
    last["address"] = "10.77.0.22"
    (project / "outputs.json").write_text(json.dumps({"registration": {"vms": {"billing-1": last}}}))
    main([*STACK, "--outputs", "outputs.json"])
    assert "2999-01-01" not in capsys.readouterr().out
