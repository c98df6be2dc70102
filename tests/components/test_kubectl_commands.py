"""kubectl commands: exact where a person reads them, run where a shell does."""

import os
import subprocess
from pathlib import Path

import pytest

from components import kubectl as module
from components.kubectl import ClusterAccess, create_token, delete_entry, kubectl, read_when_there

LAB = ClusterAccess(kubeconfig=".lab/kubeconfig", context="lab")


def test_kubectl_names_the_cluster_and_quotes() -> None:
    assert (
        kubectl(LAB, "get", "pods; rm x")
        == "kubectl --request-timeout=20s --kubeconfig=.lab/kubeconfig --context=lab get 'pods; rm x'"
    )
    assert kubectl(ClusterAccess(), "version") == "kubectl --request-timeout=20s version"


def test_a_home_folder_is_found_though_the_path_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert "--kubeconfig=/home/someone/.kube/x" in kubectl(ClusterAccess(kubeconfig="~/.kube/x"), "version")


def test_create_token() -> None:
    command = create_token(
        ClusterAccess(), service_account="billing", namespace="vm-apps", minutes=30, secret="s", secret_uid="u-1"
    )
    assert command == (
        "kubectl --request-timeout=20s create token billing --namespace=vm-apps --audience=istio-ca --duration=30m "
        "--bound-object-kind=Secret --bound-object-name=s --bound-object-uid=u-1"
    )


def test_delete_entry() -> None:
    assert delete_entry(ClusterAccess(), name="billing-10.77.0.21-net1", namespace="vm-apps") == (
        "kubectl --request-timeout=20s delete workloadentries.networking.istio.io billing-10.77.0.21-net1 "
        "--namespace=vm-apps --ignore-not-found --wait=false"
    )


def run(script: str, folder: Path, fake: str) -> subprocess.CompletedProcess[str]:
    tool = folder / "kubectl"
    tool.write_text(f"#!/bin/sh\n{fake}\n")
    tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:/usr/bin:/bin", "COUNT": str(folder / "count")}
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, env=environment, timeout=20)


THIRD_TIME = 'echo x >> "$COUNT"; [ "$(wc -l < "$COUNT")" -lt 3 ] || printf "line one\\nline two\\n"'


@pytest.mark.parametrize(("wait", "output"), [(True, "line one\nline two"), (False, "")])
def test_read_when_there(tmp_path: Path, wait: bool, output: str) -> None:
    script = read_when_there(LAB, "configmap", "c", "ns", "{.data.x}", wait=wait)
    done = run(script, tmp_path, THIRD_TIME)
    assert (done.returncode, done.stdout) == (0, output)


@pytest.mark.parametrize("wait", [True, False])
def test_an_unreachable_cluster_is_an_error_at_once(tmp_path: Path, wait: bool) -> None:
    script = read_when_there(LAB, "configmap", "c", "ns", "{.data.x}", wait=wait)
    done = run(script, tmp_path, 'echo "connection refused" >&2; exit 1')
    assert done.returncode == 1
    assert done.stderr == "connection refused\n"


def test_waiting_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0)
    done = run(read_when_there(LAB, "configmap", "c", "ns", "{.data.x}", wait=True), tmp_path, "exit 0")
    assert done.returncode == 1
    assert done.stderr == "configmap ns/c has no {.data.x} after 0 s\n"
