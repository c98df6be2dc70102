"""kubectl commands: exact where a person reads them."""

import pytest

from components.kubectl import ClusterAccess, kubectl

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
