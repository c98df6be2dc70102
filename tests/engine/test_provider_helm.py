"""How Helm is called, with a stand-in for it that writes down its arguments; the real one is used in tests/lab."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.engine.providers.base import CheckError, Context, ProviderError
from lab.engine.providers.helm import Helm
from lab.engine.providers.kube_client import KubeClient, Object
from lab.engine.values import UNKNOWN

CONTEXT = Context(urn="urn:pulumi:dev::p::t::it")
MANIFEST = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {date: 2026-01-02}\n"
RELEASE = {
    "version": 3,
    "info": {"status": "deployed"},
    "chart": {"metadata": {"name": "sample", "version": "1.2.3"}},
    "manifest": MANIFEST,
}


class Cluster(KubeClient):
    """Has a version and kinds; says of releases what the test wants."""

    def __init__(self) -> None:
        self.context = "there"
        self.kubeconfig = "/etc/kubeconfig"
        self.statuses: list[str] = []

    def request(self, method: str, path: str, **_: Any) -> Object:
        return {"gitVersion": "v1.34.4"}

    def api_versions(self) -> list[str]:
        return ["v1", "v1/Pod"]

    def list(self, *_: Any) -> list[Object]:
        status = self.statuses.pop(0) if self.statuses else ""
        return [{"metadata": {"labels": {"version": "1", "status": status}}}] if status else []


def helm_of(cluster: Cluster) -> Helm:
    return Helm(cluster, "mine", lambda *_: True)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder: `helm` writes its arguments and values there, and prints what lies in `answer`."""
    folder = tmp_path / "helm"
    folder.mkdir()
    helm = folder / "helm"
    helm.write_text(
        f"""#!/bin/sh
cd {folder}
echo "$KUBECONFIG $*" >> called
while [ $# -gt 0 ]; do [ "$1" = --values ] && cat "$2" >> values; shift; done
[ ! -f error ] || {{ cat error >&2; exit 1; }}
cat answer
"""
    )
    helm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    (folder / "answer").write_text(json.dumps(RELEASE))
    return folder


@pytest.fixture
def chart(tmp_path: Path) -> str:
    folder = tmp_path / "chart"
    folder.mkdir()
    (folder / "Chart.yaml").write_text("name: sample\nversion: 1.2.3\n")
    return str(folder)


def called(calls: Path) -> list[str]:
    return (calls / "called").read_text().splitlines()


def test_chart(calls: Path, chart: str) -> None:
    (calls / "answer").write_text(MANIFEST)
    values = {"password": "hunter2"}
    inputs = {"chart": chart, "version": "9", "skipCrds": True, "values": values}
    (child,) = helm_of(Cluster()).chart("it", inputs, CONTEXT)
    assert (child.name, child.inputs["data"]) == ("it:mine/c", {"date": "2026-01-02"})
    (call,) = called(calls)
    assert call.startswith(
        f"/etc/kubeconfig template it {chart} --namespace mine --no-hooks --dry-run=server "
        "--kube-version v1.34.4 --api-versions v1,v1/Pod --kube-context there --values "
    )
    assert "hunter2" not in call
    assert (calls / "values").read_text() == '{"password": "hunter2"}'


def test_chart_from_a_repository(calls: Path) -> None:
    (calls / "answer").write_text("")
    repository = {"repo": "https://charts.example.com"}
    helm_of(Cluster()).chart("it", {"chart": "base", "version": "9", "repositoryOpts": repository}, CONTEXT)
    assert " template it base --repo https://charts.example.com --version 9 --namespace mine" in called(calls)[0]
    with pytest.raises(CheckError, match=r"repositoryOpts\.password: is not supported"):
        repository["password"] = "x"
        helm_of(Cluster()).chart("it", {"chart": "base", "repositoryOpts": repository}, CONTEXT)


def test_release_check(calls: Path, chart: str) -> None:
    helm = helm_of(Cluster())
    checked = helm.check({"chart": chart, "name": "it", "values": {"a": UNKNOWN}, "keyring": ""})
    assert (checked["namespace"], checked["timeout"], checked["version"]) == ("mine", 300, "1.2.3")
    with pytest.raises(CheckError, match="name: is required"):
        helm.check({"chart": chart})
    with pytest.raises(CheckError, match="postrender: is not supported by the embedded engine"):
        helm.check({"chart": chart, "postrender": "x"})
    (calls / "answer").write_text("version: 7.0.0\n")
    assert helm.check({"chart": "oci://example.com/x", "name": "it"})["version"] == "7.0.0"
    (calls / "error").write_text("Error: chart not found\n")
    with pytest.raises(CheckError, match="chart: helm show failed: chart not found"):
        helm.check({"chart": "oci://example.com/x", "name": "it"})


def test_release_flags_and_outputs(calls: Path, chart: str) -> None:
    inputs = {
        "chart": chart,
        "name": "it",
        "namespace": "n",
        "createNamespace": True,
        "skipCrds": False,
        "atomic": False,
        "timeout": 20,
    }
    id_, outputs = helm_of(Cluster()).create(inputs, CONTEXT)
    assert called(calls) == [
        f"/etc/kubeconfig upgrade --install it {chart} --namespace n --reset-values --timeout 20s "
        "--output json --wait --create-namespace --kube-context there"
    ]
    assert id_ == "n/it"
    assert outputs["status"]["revision"] == 3


def test_release_timeout_of_the_program_wins_and_skip_await_does_not_wait(calls: Path, chart: str) -> None:
    inputs = {"chart": chart, "name": "it", "namespace": "n", "timeout": 20, "skipAwait": True}
    helm_of(Cluster()).update(inputs, Context(urn="u", timeout=7))
    helm_of(Cluster()).delete(inputs, CONTEXT)
    assert " --timeout 7s " in called(calls)[0] and "--wait" not in called(calls)[0]
    assert called(calls)[1] == "/etc/kubeconfig uninstall it --namespace n --ignore-not-found --kube-context there"


@pytest.mark.parametrize(("status", "undo"), [("pending-install", "uninstall"), ("pending-upgrade", "rollback")])
def test_release_that_a_killed_run_left_locked(
    calls: Path, chart: str, monkeypatch: pytest.MonkeyPatch, status: str, undo: str
) -> None:
    monkeypatch.setattr("lab.engine.providers.helm._ABANDONED", 0.0)
    cluster = Cluster()
    cluster.statuses = [status]
    helm_of(cluster).update({"chart": chart, "name": "it", "namespace": "n"}, CONTEXT)
    assert [call.split()[1] for call in called(calls)] == [undo, "upgrade"]


def test_release_failure_is_kept_only_where_helm_kept_it(calls: Path, chart: str) -> None:
    (calls / "error").write_text("WARNING: x\nError: timed out waiting\n")
    inputs = {"chart": chart, "name": "it", "namespace": "n"}
    cluster = Cluster()
    cluster.statuses = ["", "", "failed"]
    with pytest.raises(ProviderError, match="helm upgrade failed: timed out waiting") as failure:
        helm_of(cluster).create(inputs, CONTEXT)
    assert failure.value.partial is not None and failure.value.partial[0] == "n/it"
    with pytest.raises(ProviderError) as failure:
        helm_of(Cluster()).create(inputs, CONTEXT)
    assert failure.value.partial is None


def test_helm_that_is_not_there(chart: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProviderError, match="helm is not on PATH"):
        helm_of(Cluster()).chart("it", {"chart": chart}, CONTEXT)
