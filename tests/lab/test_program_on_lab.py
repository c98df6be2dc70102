"""What the program computes without asking, held against what the cluster made of it."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from stack import PROJECT, Kubectl, Stack

import arguments
from cluster.client import ApiError, Client
from components.control_plane import certificate_digest
from components.kubectl import ClusterAccess
from components.presets import PRESETS
from components.values import chart_reference, istiod_values, mesh_config
from lab.runtime import Lab
from settings import from_stack_file

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(300)]

ACCESS = ClusterAccess(kubeconfig=".lab/kubeconfig")
OWN: dict[str, Any] = {
    "hub": "lab.local/istio",
    "tag": "dev",
    "mesh_id": "mesh1",
    "trust_domain": "cluster.local",
    "cluster": "cluster1",
    "network": "net1",
    "revision": "",
}


def client() -> Client:
    return Client.connect(str(PROJECT / ".lab/kubeconfig"))


def shell(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60
    )


def test_the_mesh_config_is_what_istiod_was_given(joined: Stack, kubectl: Kubectl) -> None:
    made = json.loads(kubectl("get", "configmap", "istio", "-n", "istio-system", "-o", "json"))["data"]["mesh"]
    args = arguments.control_plane_args(from_stack_file(PROJECT / "Pulumi.dev.yaml"), lambda path: None)
    own = {key: getattr(args, key) for key in OWN}
    assert mesh_config(istiod_values(extra=args.values, **own)) == yaml.safe_load(made)


@pytest.mark.parametrize(
    ("revision", "extra"),
    [
        ("", {}),
        ("default", {}),
        ("canary", {"meshConfig": {"defaultConfig": {"proxyMetadata": {"A": "b"}, "drainDuration": "5s"}}}),
        ("", {"telemetry": {"enabled": False}, "global": {"variant": "distroless"}}),
        ("", {"telemetry": {"v2": {"stackdriver": {"enabled": True}}}}),
        ("", {"meshConfig": {"defaultProviders": {"metrics": ["mine"]}, "rootNamespace": "root"}}),
        ("", {"profile": "preview"}),
        ("", {"profile": "ambient"}),
        ("", {"profile": "demo"}),
        ("", {"global": {"proxy": {"variant": "debug"}}, "profile": "stable"}),
        ("", PRESETS["minimal"].istiod),
        ("canary", PRESETS["lab"].istiod),
    ],
)
def test_the_mesh_config_is_what_the_chart_makes(
    lab_environment: dict[str, str], tmp_path: Path, revision: str, extra: dict[str, Any]
) -> None:
    values = istiod_values(extra=extra, **{**OWN, "revision": revision})
    (tmp_path / "values.yaml").write_text(json.dumps(values))
    chart = chart_reference(".lab/charts", "istiod", "")["chart"]
    done = shell(
        f"helm template istiod {chart} -n istio-system -s templates/configmap.yaml -f {tmp_path}/values.yaml",
        lab_environment,
    )
    assert done.returncode == 0, done.stderr
    made = yaml.safe_load(yaml.safe_load(done.stdout)["data"]["mesh"])
    computed = mesh_config(values)
    # Other parts of a profile reach no VM, and are not computed.
    parts = ["trustDomain", "rootNamespace", "defaultConfig"] if "profile" in extra else list(computed)
    assert {part: made.get(part) for part in parts} == {part: computed[part] for part in parts}
    assert "profile" in extra or set(made) == set(computed)


def test_the_root_certificate_is_the_one_in_the_vms_namespace(joined: Stack, kubectl: Kubectl) -> None:
    root = kubectl("get", "configmap", "istio-ca-root-cert", "-n", "vm-apps", "-o", r"jsonpath={.data.root-cert\.pem}")
    assert joined.outputs()["mesh"]["rootCertificateSha256"] == certificate_digest(root)


def test_a_token_is_short_for_istiods_ca_only_and_bound_to_the_vms_secret(joined: Stack, kubectl: Kubectl) -> None:
    name = "istio-vm-billing-1"
    secret = json.loads(kubectl("get", "secret", name, "-n", "vm-apps", "-o", "json"))
    assert not secret.get("data")
    uid = secret["metadata"]["uid"]
    given = {
        "service_account": "billing",
        "namespace": "vm-apps",
        "audience": "istio-ca",
        "seconds": 3600,
        "secret": "istio-vm-billing-1",
    }
    payload = client().create_token(**given, secret_uid=uid).split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert claims["aud"] == ["istio-ca"]
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["kubernetes.io"]["secret"] == {"name": name, "uid": uid}
    with pytest.raises(ApiError, match="UID"):  # not to another Secret of the same name
        client().create_token(**given, secret_uid="0000")


def test_what_is_not_there_reads_as_nothing_and_is_deleted_already(lab_environment: dict[str, str]) -> None:
    for namespace in ("default", "no-such-namespace"):
        assert client().get(f"/api/v1/namespaces/{namespace}/configmaps/nothing") is None
        client().delete(f"/api/v1/namespaces/{namespace}/configmaps/nothing")


def test_a_machine_that_answers_to_its_old_address_too_stays_in_the_mesh_under_the_new_one(
    stack: Stack, lab: Lab, kubectl: Kubectl
) -> None:
    """The old address is taken down after the new one is up: on the same machine, that must not take it down again."""
    known = (line.split() for line in (PROJECT / ".lab/ssh/known_hosts").read_text().splitlines())
    key = next(" ".join(parts[1:3]) for parts in known if parts[0] == "10.77.0.22")
    added = lab.vm_exec("billing-2", ["ip", "address", "add", "10.77.0.62/24", "dev", "eth0"])
    assert added.returncode == 0, added.stderr
    stack.billing["vms"]["billing-2"] = {"address": "10.77.0.62", "hostKey": key}
    stack.up()
    assert stack.states() == {"billing-1": "healthy", "billing-2": "healthy"}
    assert lab.vm_exec("billing-2", ["systemctl", "is-active", "istio"]).stdout.strip() == "active"
    entries = json.loads(kubectl("get", "workloadentries", "-A", "-o", "json"))["items"]
    assert {entry["spec"]["address"] for entry in entries} == {"10.77.0.21", "10.77.0.62"}
    stack.billing["vms"]["billing-2"] = {"address": "10.77.0.22"}
    stack.up()
    assert stack.live() == {"billing-1": "healthy", "billing-2": "healthy"}
    lab.vm_exec("billing-2", ["ip", "address", "del", "10.77.0.62/24", "dev", "eth0"])


def registration(environment: dict[str, str], stack_file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "registration", "--stack-file", str(stack_file)],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_status_is_the_registration_as_a_table(joined: Stack, lab_environment: dict[str, str]) -> None:
    done = registration(lab_environment, PROJECT / "Pulumi.dev.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    header, *rows, total = done.stdout.splitlines()
    assert header.split()[:4] == ["VM", "WORKLOAD", "ADDRESS", "STATE"]
    assert [row.split()[:4] for row in rows] == [
        ["billing-1", "vm-apps/billing", "10.77.0.21", "healthy"],
        ["billing-2", "vm-apps/billing", "10.77.0.22", "healthy"],
    ]
    assert total == "2 VMs: 2 healthy"


def test_status_without_an_api_says_so_and_what_it_knows_all_the_same(
    stack: Stack, lab_environment: dict[str, str], tmp_path: Path
) -> None:
    kubeconfig = yaml.safe_load((PROJECT / ".lab/kubeconfig").read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    stack.config["cluster"]["kubeconfig"] = str(tmp_path / "kubeconfig")
    stack.write()
    done = registration(lab_environment, stack.file)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the Kubernetes API at https://")
    assert "127.0.0.1:1 refuses connections" in done.stderr
    assert "2 VMs: 2 reachable" in done.stdout
