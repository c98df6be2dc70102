"""The whole program with namespaces, policies and services around the VMs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recording import Run
from test_program import STACK, project, run_program

from arguments.namespaces import principal
from settings import parse

__all__ = ["project"]

MESH: dict[str, Any] = {
    "namespaces": {
        "shop": {"labels": {"team": "shop"}, "access": [{"from": ["ledger", "ops/*"], "ports": [8080]}]},
        "vm-apps": {"injection": "byPod", "mutualTls": "STRICT"},
    },
    "services": {
        "reviews": {
            "namespace": "shop",
            "hosts": ["reviews.mesh.internal"],
            "ports": {"http": 80, "web": 81},
            "targetPorts": {"http": 8080},
            "endpoints": [{"address": "10.0.0.9", "serviceAccount": "legacy", "labels": {}}],
        },
        "elsewhere": {"namespace": "other", "hosts": ["a.example"], "ports": {"tls": 443}, "resolution": "NONE"},
    },
}


@pytest.fixture(scope="module", autouse=True)
def mesh() -> Iterator[None]:
    """The stack of these tests, in place of the program's."""
    billing = STACK["workloads"]["billing"]
    service = {"host": "billing.mesh.internal", "ports": {"http": 80}}
    access = [{"from": ["billing"], "ports": ["http"], "methods": ["GET"]}]
    with pytest.MonkeyPatch.context() as patch:
        for key, value in MESH.items():
            patch.setitem(STACK, key, value)
        patch.setitem(STACK, "istio", STACK["istio"] | {"mutualTls": "PERMISSIVE", "trustDomain": "td.example"})
        patch.setitem(billing, "service", service)
        patch.setitem(billing, "access", access)
        yield


@pytest.fixture(scope="module")
def done(project: Path, mesh: None) -> Run:
    return run_program()


def test_what_is_made_around_the_vms(done: Run) -> None:
    made = {
        name: (resource.parent_name, resource.inputs["metadata"]["namespace"])
        for name, resource in done.monitor.registered.items()
        if resource.type.startswith(("kubernetes:security.istio.io", "kubernetes:networking.istio.io"))
        and not resource.type.endswith(("WorkloadGroup", "WorkloadGroupPatch"))
        and resource.parent_name not in {"east-west"}
    }
    assert made == {
        "istio-system-mutual-tls": ("istio-system-policies", "istio-system"),
        "vm-apps-mutual-tls": ("vm-apps-policies", "vm-apps"),
        "shop-namespace-access": ("shop-policies", "shop"),
        "billing-access": ("billing", "vm-apps"),
        "billing-service-entry": ("billing", "vm-apps"),
        "reviews-service-entry": ("reviews", "shop"),
        "elsewhere-service-entry": ("elsewhere", "other"),
    }
    for name in made:
        assert {"istio-base", "istio-istiod"} <= done[name].dependency_names, name
    for name in ("shop-namespace-access", "reviews-service-entry"):
        assert "shop-namespace" in done[name].dependency_names
    assert done["shop-namespace"].inputs["metadata"]["labels"] == {"istio-injection": "enabled", "team": "shop"}
    assert done["vm-apps-namespace"].inputs["metadata"].get("labels", {}) == {}
    assert done["shop-namespace-access"].inputs["spec"]["rules"] == [
        {
            "from": [{"source": {"principals": ["td.example/ns/vm-apps/sa/ledger", "td.example/ns/ops/sa/*"]}}],
            "to": [{"operation": {"ports": ["8080"]}}],
        }
    ]
    assert done["billing-access"].inputs["spec"]["rules"] == [
        {
            "from": [{"source": {"principals": ["td.example/ns/vm-apps/sa/billing"]}}],
            "to": [{"operation": {"methods": ["GET"], "ports": ["8080"]}}],
        }
    ]
    assert done["billing-service-entry"].inputs["spec"]["ports"] == [
        {"name": "http", "number": 80.0, "protocol": "HTTP", "targetPort": 8080.0}
    ]
    assert done["reviews-service-entry"].inputs["spec"] == {
        "hosts": ["reviews.mesh.internal"],
        "location": "MESH_INTERNAL",
        "ports": [
            {"name": "http", "number": 80.0, "protocol": "HTTP", "targetPort": 8080.0},
            {"name": "web", "number": 81.0},
        ],
        "resolution": "STATIC",
        "endpoints": [{"address": "10.0.0.9", "serviceAccount": "legacy"}],
    }


def test_services_and_hosts_are_put_out(done: Run) -> None:
    values = done.values
    assert values["services"] == {
        "reviews": {"hosts": ["reviews.mesh.internal"], "ports": {"http": 80, "web": 81}, "namespace": "shop"},
        "elsewhere": {"hosts": ["a.example"], "ports": {"tls": 443}, "namespace": "other"},
    }
    assert values["workloads"]["billing"]["host"] == "billing.mesh.internal"


@pytest.mark.parametrize(
    ("caller", "named"),
    [
        ("*", "*"),
        ("spiffe://other.domain/ns/a/sa/b", "other.domain/ns/a/sa/b"),
        ("a/*", "td.example/ns/a/sa/*"),
        ("a/b", "td.example/ns/a/sa/b"),
        ("ledger", "td.example/ns/vm-apps/sa/ledger"),
    ],
)
def test_a_caller_as_policies_name_it(project: Path, caller: str, named: str) -> None:
    assert principal(parse(STACK, project_dir=project), caller) == named
