"""What is said of a control plane: each part of the report, from what kubectl would answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from registration.pipe import dump

from registration.mesh_reader import Cluster, Unanswered, read
from registration.mesh_state import Request, Workload, named, parse, sync_of, workload_state, worst

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
            "validate": Unanswered(DENIED),
            "proxies": [proxy("billing-1.vm-apps"), proxy("istio-eastwestgateway-5d-x7.istio-system", routes=False)],
            "pods": "",
            **answers,
        }
        self.slept = 0
        self.clock = 0.0
        self.tried: list[dict[str, Any]] = []

    def cluster(self) -> Cluster:
        return Cluster(kubectl=self.kubectl, now=lambda: self.clock, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.clock += seconds

    def kubectl(self, arguments: Sequence[str], stdin: str) -> str:
        answer = self._answer(list(arguments), stdin)
        if isinstance(answer, list) and answer and isinstance(answer[0], Sequenced):
            answer = answer[0].take()
        if isinstance(answer, Unanswered):
            raise answer
        return answer if isinstance(answer, str) else json.dumps(answer)

    def _answer(self, arguments: list[str], stdin: str) -> Any:
        match arguments:
            case ["create", "--dry-run=server", *_]:
                obj = json.loads(stdin)
                self.tried.append(obj)
                if obj["kind"] == "VirtualService":
                    return self.answers["validate"]
                names = self.answers["inject"]
                return (
                    names if isinstance(names, Unanswered) else {"spec": {"containers": [{"name": n} for n in names]}}
                )
            case ["get", "--raw", path]:
                assert path == "/api/v1/namespaces/istio-system/services/istiod:15014/proxy/version"
                return self.answers["version"]
            case ["get", "deployments", name, *_]:
                return self.answers[name]
            case ["get", "pods", "--namespace=vm-apps", *_]:
                return self.answers["pods"]
            case ["get", "pods", *rest]:
                assert "app=istiod,istio.io/rev=default" in rest
                return "pod/istiod-a\npod/istiod-b\n"
            case ["exec", pod, *_]:
                return self.answers["proxies"] if pod == "pod/istiod-a" else "[]"
        raise AssertionError(arguments)


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
        ({"istio-eastwestgateway": ""}, "istio-system/istio-eastwestgateway: missing"),
        ({"istio-eastwestgateway": Unanswered("no")}, "istio-system/istio-eastwestgateway: no"),
        ({"inject": ["app"]}, "webhook injection: a new pod gets no sidecar"),
        ({"inject": Unanswered("failed calling webhook")}, "webhook injection: failed calling webhook"),
        ({"validate": "made"}, "webhook validation: takes a VirtualService without hosts"),
        ({"validate": Unanswered("no endpoints")}, "webhook validation: no endpoints"),
        ({"version": Unanswered("not found")}, "istiod's version: not found"),
        ({"proxies": Unanswered("forbidden")}, "proxies: forbidden"),
        ({"proxies": [proxy("a.b", acked=False)]}, "proxy a.b: has not taken what istiod sent"),
    ],
)
def test_what_is_not_well_is_waited_for_then_told(answers: dict[str, Any], problem: str) -> None:
    answering = Answering(**answers)
    found = read(REQUEST, answering.cluster())
    assert (found["ready"], found["problems"]) == (False, [problem])
    assert answering.slept == 5


def test_what_becomes_well_meanwhile_is_well() -> None:
    behind = [Sequenced([proxy("billing-1.vm-apps", acked=False)], [proxy("billing-1.vm-apps")])]
    answering = Answering(proxies=behind)
    assert read(REQUEST, answering.cluster())["ready"] is True
    assert answering.slept == 1


def test_a_vm_that_is_connected_is_waited_for() -> None:
    request = replace(REQUEST, vms=("billing-1.vm-apps",))
    answering = Answering(proxies=[Sequenced([], [proxy("billing-1.vm-apps")])])
    assert read(request, answering.cluster())["ready"] is True
    assert answering.slept == 1
    assert read(request, Answering(proxies=[]).cluster())["problems"] == [
        "proxy billing-1.vm-apps: is not among istiod's"
    ]


def test_other_proxies_are_not_named_but_their_versions_are() -> None:
    others = [proxy("hello-5d-x.shop", version="1.30.0"), proxy("web-5d-x.vm-apps"), proxy("vm-9.vm-apps")]
    found = read(REQUEST, Answering(proxies=others, pods="pod/web-5d-x\n").cluster())
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
    found = read(replace(REQUEST, has_istiod=False, workloads=()), Answering(version=Unanswered("x")).cluster())
    assert (found["ready"], found["version"], found["proxies"]) == (True, "", {})


def test_a_revision_is_asked_for_by_its_label() -> None:
    answering = Answering()
    with pytest.raises(AssertionError, match="istiod-canary"):
        read(replace(REQUEST, revision="canary"), answering.cluster())
    assert {obj["metadata"]["labels"].get("istio.io/rev") for obj in answering.tried} == {"canary"}


def test_a_request_survives_the_pipe() -> None:
    request = replace(REQUEST, vms=("billing-1.vm-apps",))
    assert parse(dump(request)) == request


def test_the_outputs_reference_has_every_key() -> None:
    text = (Path(__file__).parents[2] / "docs/outputs.md").read_text()
    section = text.split("## `mesh.controlPlane`")[1].split("##")[0]
    found = read(REQUEST, Answering().cluster())
    for key in [*found, *found["webhooks"], *found["proxies"]["billing-1.vm-apps"]["sync"]]:
        assert key in section
