"""What is said of a control plane: each part of the report, from what the cluster would answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import FakeCluster

from cluster.errors import ApiError
from registration.mesh_reader import Cluster, read
from registration.mesh_state import Request, Workload, named, sync_of, workload_state, worst

ISTIOD = Workload(kind="deployments", namespace="istio-system", name="istiod")
GATEWAY = Workload(kind="deployments", namespace="istio-system", name="istio-eastwestgateway")
REQUEST = Request(revision="", workloads=(ISTIOD, GATEWAY), vm_namespaces=("vm-apps",), deadline_seconds=5)
DENIED = 'admission webhook "validation.istio.io" denied the request: virtual service must have at least one host'


def deployment(ready: int = 1, wanted: int = 1, generation: int = 1) -> dict[str, Any]:
    status = {"updatedReplicas": ready, "readyReplicas": ready, "observedGeneration": 1}
    return {
        "kind": "Deployment",
        "metadata": {"generation": generation},
        "spec": {"replicas": wanted},
        "status": status,
    }


def proxy(name: str, acked: bool = True, routes: bool = True, version: str = "1.31.1") -> dict[str, Any]:
    found: dict[str, Any] = {"proxy": name, "istio_version": version}
    for kind in ("cluster", "listener", "endpoint", *(["route"] if routes else [])):
        found |= {f"{kind}_sent": "2", f"{kind}_acked": "2" if acked else "1"}
    return found


class Answering:
    """A cluster that answers, with parts of it changed."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "version": "1.31.1-abc-Clean",
            "istiod": deployment(),
            "istio-eastwestgateway": deployment(),
            "inject": ["app", "istio-proxy"],
            "validate": ApiError(DENIED),
            "proxies": [proxy("billing-1.vm-apps"), proxy("istio-eastwestgateway-5d-x7.istio-system", routes=False)],
            "pods": [],
            **answers,
        }
        self.slept = 0
        self.clock = 0.0
        self.client = FakeCluster(self.answer)

    @property
    def tried(self) -> list[dict[str, Any]]:
        return [body for _, _, body in self.client.sent]

    def cluster(self) -> Cluster:
        return Cluster(client=self.client, now=lambda: self.clock, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.clock += seconds

    def answer(self, path: str) -> Any:
        match path:
            case "/api/v1/namespaces/istio-system/pods?dryRun=All":
                names = self.answers["inject"]
                return names if isinstance(names, ApiError) else {"spec": {"containers": [{"name": n} for n in names]}}
            case "/apis/networking.istio.io/v1/namespaces/istio-system/virtualservices?dryRun=All":
                return self.answers["validate"]
            case "/api/v1/namespaces/istio-system/services/istiod:15014/proxy/version":
                return self.answers["version"]
            case "/api/v1/namespaces/vm-apps/pods":
                return {"items": [{"metadata": {"name": name}} for name in self.answers["pods"]]}
            case "/api/v1/namespaces/istio-system/pods?labelSelector=app%3Distiod%2Cistio.io%2Frev%3Ddefault":
                return {"items": [pod("istiod-a"), pod("istiod-b"), pod("istiod-c", going=True)]}
            case "istio-system/istiod-a/discovery: pilot-discovery request GET /debug/syncz":
                return self._proxies()
            case "istio-system/istiod-b/discovery: pilot-discovery request GET /debug/syncz":
                return "[]"
        place = "/apis/apps/v1/namespaces/istio-system/deployments/"
        assert path.startswith(place), path
        return self.answers[path.removeprefix(place)]

    def _proxies(self) -> Any:
        found = self.answers["proxies"]
        found = found.take() if isinstance(found, Sequenced) else found
        return found if isinstance(found, ApiError) else json.dumps(found)


def pod(name: str, *, going: bool = False) -> dict[str, Any]:
    metadata = {"name": name, **({"deletionTimestamp": "2026-11-21T12:00:00Z"} if going else {})}
    return {"metadata": metadata, "status": {"phase": "Running"}}


class Sequenced:
    """Answers that come one after the other."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def take(self) -> Any:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_one_in_which_all_is_well() -> None:
    answering = Answering()
    assert read(REQUEST, answering.cluster()) == {
        "ready": True,
        "version": "1.31.1",
        "workloads": {"istio-system/istio-eastwestgateway": "ready", "istio-system/istiod": "ready"},
        "webhooks": {"injection": "answers", "validation": "answers"},
        "proxies": {
            "billing-1.vm-apps": {
                "version": "1.31.1",
                "sync": {"cds": "SYNCED", "lds": "SYNCED", "eds": "SYNCED", "rds": "SYNCED"},
            },
            "istio-eastwestgateway.istio-system": {
                "version": "1.31.1",
                "sync": {"cds": "SYNCED", "lds": "SYNCED", "eds": "SYNCED", "rds": "NOT SENT"},
            },
        },
        "proxyVersions": ["1.31.1"],
        "problems": [],
    }
    assert answering.slept == 0
    assert all(obj["metadata"]["namespace"] == "istio-system" for obj in answering.tried)


@pytest.mark.parametrize(
    ("answers", "problem"),
    [
        ({"istiod": deployment(ready=0)}, "istio-system/istiod: 0 of 1 ready"),
        ({"istiod": deployment(generation=2)}, "istio-system/istiod: is being changed"),
        ({"istio-eastwestgateway": None}, "istio-system/istio-eastwestgateway: missing"),
        ({"istio-eastwestgateway": ApiError("no")}, "istio-system/istio-eastwestgateway: no"),
        ({"inject": ["app"]}, "webhook injection: a new pod gets no sidecar"),
        ({"inject": ApiError("failed calling webhook")}, "webhook injection: failed calling webhook"),
        ({"validate": {}}, "webhook validation: takes a VirtualService without hosts"),
        ({"validate": ApiError("no endpoints")}, "webhook validation: no endpoints"),
        ({"version": ApiError("not found")}, "istiod's version: not found"),
        ({"proxies": ApiError("forbidden")}, "proxies: forbidden"),
        ({"proxies": [proxy("a.b", acked=False)]}, "proxy a.b: has not taken what istiod sent"),
    ],
)
def test_what_is_not_well_is_waited_for_then_told(answers: dict[str, Any], problem: str) -> None:
    answering = Answering(**answers)
    found = read(REQUEST, answering.cluster())
    assert (found["ready"], found["problems"]) == (False, [problem])
    assert answering.slept == 5


def test_what_becomes_well_meanwhile_is_well() -> None:
    behind = Sequenced([proxy("billing-1.vm-apps", acked=False)], [proxy("billing-1.vm-apps")])
    answering = Answering(proxies=behind)
    assert read(REQUEST, answering.cluster())["ready"] is True
    assert answering.slept == 1


def test_a_vm_that_is_connected_is_waited_for() -> None:
    request = replace(REQUEST, vms=("billing-1.vm-apps",))
    answering = Answering(proxies=Sequenced([], [proxy("billing-1.vm-apps")]))
    assert read(request, answering.cluster())["ready"] is True
    assert answering.slept == 1
    assert read(request, Answering(proxies=[]).cluster())["problems"] == [
        "proxy billing-1.vm-apps: is not among istiod's"
    ]


def test_other_proxies_are_not_named_but_their_versions_are() -> None:
    others = [proxy("hello-5d-x.shop", version="1.30.0"), proxy("web-5d-x.vm-apps"), proxy("vm-9.vm-apps")]
    found = read(REQUEST, Answering(proxies=others, pods=["web-5d-x"]).cluster())
    assert list(found["proxies"]) == ["vm-9.vm-apps"]
    assert found["proxyVersions"] == ["1.30.0", "1.31.1"]


def test_pods_of_a_deployment_are_told_of_as_one() -> None:
    assert named("istiod-5d-x.istio-system", REQUEST, frozenset()) == "istiod.istio-system"
    assert named("istiod-canary-5d-x.istio-system", REQUEST, frozenset()) == ""
    syncs = [sync_of(proxy("a")), sync_of(proxy("b", routes=False)), sync_of(proxy("c", acked=False))]
    assert worst(syncs[:2]) == {"cds": "SYNCED", "lds": "SYNCED", "eds": "SYNCED", "rds": "NOT SENT"}
    assert worst(syncs) == dict.fromkeys(["cds", "lds", "eds", "rds"], "STALE")


def test_a_daemonset_is_ready_on_all_nodes() -> None:
    status = {"desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberReady": 1}
    assert workload_state({"kind": "DaemonSet", "metadata": {}, "spec": {}, "status": status}) == "1 of 2 ready"
    status["numberReady"] = 2
    assert workload_state({"kind": "DaemonSet", "metadata": {}, "spec": {}, "status": status}) == "ready"


def test_a_cluster_without_an_istiod_is_not_asked_for_one() -> None:
    found = read(replace(REQUEST, has_istiod=False, workloads=()), Answering(version=ApiError("x")).cluster())
    assert (found["ready"], found["version"], found["proxies"]) == (True, "", {})


def test_a_revision_is_asked_for_by_its_label() -> None:
    answering = Answering()
    with pytest.raises(AssertionError, match="istiod-canary"):
        read(replace(REQUEST, revision="canary"), answering.cluster())
    assert {obj["metadata"]["labels"].get("istio.io/rev") for obj in answering.tried} == {"canary"}


def test_the_outputs_reference_has_every_key() -> None:
    text = (Path(__file__).parents[2] / "docs/outputs.md").read_text()
    section = text.split("## `mesh.controlPlane`")[1].split("##")[0]
    found = read(REQUEST, Answering().cluster())
    for key in [*found, *found["webhooks"], *found["proxies"]["billing-1.vm-apps"]["sync"]]:
        assert key in section
