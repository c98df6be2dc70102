"""The outputs say that the control plane works, and would say what does not."""

from __future__ import annotations

from typing import Any

import pytest
from stack import PROJECT, Kubectl, Stack, eventually

from cluster.client import Client
from registration.mesh_reader import Cluster, read
from registration.mesh_state import Request, Workload

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(420)]

SYNCED = {"cds": "SYNCED", "lds": "SYNCED", "eds": "SYNCED", "rds": "SYNCED"}
ISTIOD = Workload(kind="deployments", namespace="istio-system", name="istiod")


def look() -> dict[str, Any]:
    """What the program's own reader says now."""
    request = Request(revision="", workloads=(ISTIOD,), vm_namespaces=("vm-apps",))
    return read(request, Cluster(client=Client.connect(str(PROJECT / ".lab/kubeconfig"))))


def test_the_outputs_confirm_the_control_plane(joined: Stack) -> None:
    assert joined.outputs()["mesh"]["controlPlane"] == {
        "ready": True,
        "version": "1.31.1",
        "workloads": {"istio-system/istio-eastwestgateway": "ready", "istio-system/istiod": "ready"},
        "webhooks": {"injection": "answers", "validation": "answers"},
        "proxies": {
            "billing-1.vm-apps": {"version": "1.31.1", "sync": SYNCED},
            "billing-2.vm-apps": {"version": "1.31.1", "sync": SYNCED},
            # It passes TLS on, and has no routes.
            "istio-eastwestgateway.istio-system": {"version": "1.31.1", "sync": {**SYNCED, "rds": "NOT SENT"}},
        },
        "proxyVersions": ["1.31.1"],
        "problems": [],
    }


def test_they_stay_the_same_when_nothing_changes(joined: Stack) -> None:
    before = joined.outputs()["mesh"]
    joined.up()
    assert joined.outputs()["mesh"] == before


def test_an_istiod_that_is_gone_shows(joined: Stack, kubectl: Kubectl) -> None:
    istiod = ("-n", "istio-system", "deployment", "istiod")
    kubectl("scale", *istiod, "--replicas=0")
    kubectl("-n", "istio-system", "wait", "pod", "-l", "app=istiod", "--for=delete", "--timeout=60s")
    try:
        found = look()
        assert found["ready"] is False
        assert "failed calling webhook" in found["webhooks"]["validation"]
        assert found["webhooks"]["injection"] != "answers"
        assert found["proxies"] == {}
        assert found["version"] == ""
    finally:
        kubectl("scale", *istiod, "--replicas=1")
        kubectl("-n", "istio-system", "rollout", "status", "deployment/istiod", "--timeout=90s")
    eventually(lambda: len(look()["proxies"]) == 2, seconds=90, what="VMs are connected again", every=3)
    assert look()["ready"] is True
