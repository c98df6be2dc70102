"""The whole program on an Istio that somebody else has installed."""

from pathlib import Path
from typing import Any

import pulumi
import pytest
from test_program import STACK, project, run_program

import mesh
from components.existing import FoundIstio

__all__ = ["project"]

FOUND = FoundIstio(
    version="1.30.2",
    mesh_id="theirs",
    trust_domain="example.com",
    mesh_config={"trustDomain": "example.com", "defaultConfig": {"meshId": "theirs"}},
)


@pytest.fixture
def existing(project: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    istio = {"install": "existing", "charts": "charts"}
    monkeypatch.setitem(STACK, "istio", istio)
    monkeypatch.setattr(mesh, "facts", lambda client, revision: None)
    monkeypatch.setattr(mesh, "judge", lambda wanted, facts: FOUND)
    return istio


def test_what_it_says_is_the_stacks(existing: dict[str, Any]) -> None:
    done = run_program()
    assert {"istio-namespace", "istio-base", "istio-istiod"} & done.names == set()
    assert done["istio"].type == "istiovm:index:ExistingControlPlane"
    assert (done.values["mesh"]["id"], done.values["mesh"]["trustDomain"]) == ("theirs", "example.com")
    assert done.values["workloads"]["billing"]["identity"] == "spiffe://example.com/ns/vm-apps/sa/billing"
    assert done["east-west-chart"].dependency_names >= {"istio-network"}
    looked_at = done.values["mesh"]["controlPlane"]["workloads"]
    assert looked_at == dict.fromkeys(["istio-system/istiod", "istio-system/istio-eastwestgateway"], "ready")


def test_all_reasons_against_it_are_told_at_once(existing: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "judge", lambda wanted, facts: ["one", "two"])
    with pytest.raises(pulumi.RunError, match=r"cannot take this stack's VMs:\n  one\n  two$"):
        run_program()


def test_only_what_the_stack_says_itself_must_be_so(existing: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def judge(wanted: Any, facts: Any) -> FoundIstio:
        asked.append(wanted)
        return FOUND

    monkeypatch.setattr(mesh, "judge", judge)
    run_program()
    existing.update(trustDomain="example.com", meshId="theirs", allowPatches=True)
    run_program()
    assert [(one.mesh_id, one.trust_domain, one.may_patch) for one in asked] == [
        ("", "", False),
        ("theirs", "example.com", True),
    ]
    assert all(one.makes_gateway for one in asked)


def test_the_cluster_is_not_asked_where_helm_installs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "facts", None)
    assert "istio-istiod" in run_program().names
