"""`python -m manifests` on a project in a folder of the test's, with a Helm that prints what it was asked."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import recording  # noqa: F401  loads the providers' SDKs, which warn of themselves when they load
import yaml
from settings_samples import DIGEST, HOST_KEY, PRIVATE_KEY

from manifests import charts, files
from manifests.__main__ import main

HELM = """#!/bin/sh
[ "$1" = template ] || exit 9
case $3 in *broken) echo "Error: values: nothing fits" >&2; exit 1 ;; esac
for value; do last=$value; done
cat <<END
apiVersion: v1
kind: ConfigMap
metadata: {name: $2}
data: {arguments: "$(echo "$*" | sed 's, [^ ]*$,,')"}
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Secret, metadata: {name: $2, namespace: other}, data: {key: cHJpdmF0ZQ==}}
- {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: "$2:reader"}}
END
"""
STACK: dict[str, Any] = {
    "cluster": {"name": "cluster1", "network": "net1"},
    "istio": {"version": "1.31.1", "charts": "charts"},
    "hosts": {
        "observe": True,  # and yet no VM is looked at: there is none
        "sidecar": {"amd64": {"deb": {"url": "http://mirror/x.deb", "sha256": DIGEST}}},
        "ssh": {"privateKeyFile": "id"},
    },
    "workloads": {
        "billing": {
            "namespace": "vm-apps",
            "serviceAccount": "billing",
            "labels": {"app": "billing"},
            "ports": {"http": 8080},
            "service": {"ports": {"http": 80}},
            "vms": {"billing-1": {"address": "10.77.0.21", "hostKey": HOST_KEY}},
        }
    },
}
Write = Callable[..., int]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for chart in ("base", "istiod", "gateway"):
        (tmp_path / "charts" / chart).mkdir(parents=True)
        (tmp_path / "charts" / chart / "Chart.yaml").touch()
    (tmp_path / "id").write_text(PRIVATE_KEY)
    (tmp_path / "id").chmod(0o600)
    (tmp_path / "Pulumi.yaml").write_text("name: istio-vm-mesh\n")
    (tmp_path / "helm").write_text(HELM)
    (tmp_path / "helm").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


@pytest.fixture
def write(project: Path) -> Write:
    def run(**changed: Any) -> int:
        config = {f"istio-vm-mesh:{key}": value for key, value in {**STACK, **changed}.items()}
        (project / "stack.yaml").write_text(yaml.safe_dump({"config": config}))
        return main(["--stack-file", "stack.yaml", "--folder", "out"])

    return run


def read(project: Path) -> dict[str, str]:
    out = project / "out"
    return {str(path.relative_to(out)): path.read_text() for path in sorted(out.rglob("*")) if path.is_file()}


def labelled(**labels: str) -> dict[str, Any]:
    return {"billing": {**STACK["workloads"]["billing"], "labels": labels}}


def test_each_object_is_a_file_named_by_what_it_is(project: Path, write: Write) -> None:
    assert write() == 0
    found = read(project)
    assert list(found) == [
        "_cluster/clusterrole.rbac.authorization.k8s.io_istio-base%3Areader.yaml",
        "_cluster/clusterrole.rbac.authorization.k8s.io_istio-eastwestgateway%3Areader.yaml",
        "_cluster/clusterrole.rbac.authorization.k8s.io_istiod%3Areader.yaml",
        "_cluster/namespace_istio-system.yaml",
        "_cluster/namespace_vm-apps.yaml",
        "_cluster/validatingadmissionpolicy.admissionregistration.k8s.io_billing.vm-apps.istio-vm-mesh.yaml",
        "_cluster/validatingadmissionpolicybinding.admissionregistration.k8s.io_billing.vm-apps.istio-vm-mesh.yaml",
        "istio-system/configmap_istio-base.yaml",
        "istio-system/configmap_istio-eastwestgateway.yaml",
        "istio-system/configmap_istiod.yaml",
        "istio-system/gateway.networking.istio.io_cross-network-gateway.yaml",
        "istio-system/gateway.networking.istio.io_istiod-gateway.yaml",
        "istio-system/virtualservice.networking.istio.io_istiod-gateway.yaml",
        "istio-system/workloadgroup.networking.istio.io_billing.vm-apps.istio-vm-mesh.yaml",
        "other/secret_istio-base.yaml",
        "other/secret_istio-eastwestgateway.yaml",
        "other/secret_istiod.yaml",
        "vm-apps/service_billing.yaml",
        "vm-apps/serviceaccount_billing.yaml",
        "vm-apps/workloadgroup.networking.istio.io_billing.yaml",
    ]
    service = yaml.safe_load(found["vm-apps/service_billing.yaml"])
    assert (service["kind"], service["spec"]["ports"][0]["port"]) == ("Service", 80)
    assert "80.0" not in found["vm-apps/service_billing.yaml"]
    asked = yaml.safe_load(found["istio-system/configmap_istio-base.yaml"])["data"]["arguments"]
    assert asked == (
        "template istio-base charts/base --namespace istio-system --no-hooks --include-crds --kube-version 1.34.0"
        " --values"
    )


def test_nodes_that_nobody_knows_yet_are_no_mistake(write: Write) -> None:
    assert write(eastWestGateway={"service": "NodePort"}) == 0


def test_the_same_stack_is_the_same_bytes(project: Path, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write()
    first = read(project)
    capsys.readouterr()
    assert write() == 0
    assert read(project) == first
    assert capsys.readouterr().out == "20 objects in out: 0 files written, 0 removed\n"


def test_a_changed_label_is_a_changed_file(project: Path, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    write()
    first = read(project)
    capsys.readouterr()
    assert write(workloads=labelled(app="billing", tier="gold")) == 0
    second = read(project)
    assert [path for path in first if first[path] != second[path]] == [
        "istio-system/workloadgroup.networking.istio.io_billing.vm-apps.istio-vm-mesh.yaml",
        "vm-apps/workloadgroup.networking.istio.io_billing.yaml",
    ]
    assert " ~ vm-apps/workloadgroup.networking.istio.io_billing.yaml\n" in capsys.readouterr().out


def test_what_is_gone_goes_and_what_others_wrote_stays(project: Path, write: Write) -> None:
    write()
    (project / "out/README.md").write_text("mine")
    (project / "out/vm-apps/mine.yaml").write_text("mine: true\n")
    assert write(workloads={}) == 0
    assert {path for path in read(project) if "vm-apps" in path or path == "README.md"} == {
        "README.md",
        "vm-apps/mine.yaml",
    }
    (project / "out/vm-apps/mine.yaml").unlink()
    write()
    write(workloads={})
    assert not (project / "out/vm-apps").exists()


def test_a_file_of_somebody_elses_is_not_overwritten(
    project: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project / "out/vm-apps/service_billing.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("mine: true\n")
    assert write() == 1
    assert capsys.readouterr().err == (
        "error: out/vm-apps/service_billing.yaml: not written by this command, so it is not overwritten\n"
    )
    assert read(project) == {"vm-apps/service_billing.yaml": "mine: true\n"}


def test_nothing_secret_is_written(project: Path, write: Write) -> None:
    write()
    text = "".join(read(project).values())
    assert "cHJpdmF0ZQ" not in text
    assert not re.search("PRIVATE KEY|token:", text)
    secret = read(project)["other/secret_istiod.yaml"]
    assert secret.startswith(files.MARK + files.SECRET_MARK)
    # The tokens' Secrets bear a number that only the cluster knows.
    assert "billing-1" not in "".join(read(project))


def test_a_stack_that_is_refused_writes_nothing(
    project: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write(cluster={"name": "cluster1"}) == 2
    assert "cluster.network: missing" in capsys.readouterr().err
    assert not (project / "out").exists()


def test_a_chart_that_fails_says_which(project: Path, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "charts").rename(project / "broken")
    (project / "helm").write_text(HELM.replace("*broken)", "*/istiod)"))
    assert write(istio={"version": "1.31.1", "charts": "broken"}) == 1
    assert capsys.readouterr().err == "error: chart broken/istiod: values: nothing fits\n"
    assert not (project / "out").exists()


def test_without_helm_it_says_so(project: Path, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "helm").unlink()
    assert write() == 1
    assert capsys.readouterr().err == "error: helm is not on PATH; charts are rendered with it\n"


def test_charts_come_from_where_the_stack_says() -> None:
    chart = {"name": "r", "chart": "istiod", "namespace": "n", "version": "1.31.1"}
    repository = {"repositoryOpts": {"repo": "https://charts.example.com"}}
    assert charts.command({**chart, **repository}, "1.34.0")[-4:] == [
        "--repo",
        "https://charts.example.com",
        "--version",
        "1.31.1",
    ]
    assert "--repo" not in charts.command({**chart, "chart": "oci://example.com/istiod"}, "1.34.0")


def test_two_objects_that_are_one_are_refused() -> None:
    twice = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}}
    with pytest.raises(files.ObjectsError, match=r"^b/configmap_a\.yaml: the stack makes this object twice$"):
        files.lay_out([twice, twice])
