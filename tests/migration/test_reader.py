"""What is asked of the cluster and of which proxies, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from cluster.errors import ApiError
from migration.decision import Count, Reason, Refusal, Step, Wanted
from migration.in_force import ANNOTATION
from migration.reader import SERVICE_ENTRIES, Migration, Page, Sources, step_of

HOST = "billing.vm-apps.svc.cluster.local"
VIRTUAL_SERVICE = f"/apis/networking.istio.io/v1/namespaces/vm-apps/virtualservices/{HOST}"
SERVICE = "/api/v1/namespaces/vm-apps/services/billing"
PODS = "/api/v1/namespaces/vm-apps/pods?labelSelector=app%3Dbilling"
ENTRIES = "/apis/networking.istio.io/v1/namespaces/vm-apps/workloadentries"


def page(good: int, bad: int = 0, port: int = 8080) -> Page:
    line = 'envoy_cluster_upstream_rq{cluster_name="inbound|%d||",response_code_class="%s"} %d\n'
    return Page(text=line % (port, "2xx", good) + line % (port, "5xx", bad))


def pod(name: str, version: str = "pods", *, ready: bool = True, **changes: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"app": "billing", "version": version}, **changes.pop("metadata", {})},
        "spec": {
            "containers": [{"name": "app", "ports": [{"name": "web", "containerPort": 8080}]}],
            "initContainers": [{"name": "istio-proxy"}],
        },
        "status": {
            "phase": "Running",
            "podIP": "10.244.0.9",
            "conditions": [{"type": "Ready", "status": str(ready)}],
        },
        **changes,
    }


def entry(address: str, *, healthy: bool = True, annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
    registered = {
        "istio.io/autoRegistrationGroup": "billing",
        "istio.io/connectedAt": "2026-11-21T11:00:00Z",
        "proxy.istio.io/health-checks-enabled": "true",
    }
    condition = {"type": "Healthy", "status": str(healthy), "message": "Get http://x:\n refused"}
    return {
        "metadata": {
            "name": f"billing-{address}-net1",
            "annotations": registered if annotations is None else dict(annotations),
        },
        "spec": {"address": address, "labels": {"app": "billing", "version": "v1"}, "ports": {"http": 8080}},
        "status": {"conditions": [condition]},
    }


@dataclass
class Mesh:
    """A cluster and its proxies, and what was asked of them."""

    weights: Mapping[str, int] = field(default_factory=lambda: {"vm": 70, "pods": 30})
    record: str = '{"from": "vm", "to": "pods", "at": 30, "requestsAndErrors": {}}'
    pods: Sequence[Mapping[str, Any]] = ()
    entries: Sequence[Mapping[str, Any]] = ()
    pages: Mapping[str, Page] = field(default_factory=dict)
    service: Mapping[str, Any] | None = field(
        default_factory=lambda: {
            "metadata": {"namespace": "vm-apps"},
            "spec": {"selector": {"app": "billing"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
        }
    )
    more: Mapping[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def get(self, path: str, seconds: float) -> Mapping[str, Any] | None:
        assert 0 < seconds <= 10
        self.asked.append(path)
        routes = [{"destination": {"host": HOST, "subset": s}, "weight": w} for s, w in self.weights.items()]
        rules = [{"route": routes}]
        annotated = {"metadata": {"annotations": {ANNOTATION: self.record}}, "spec": {"http": rules}}
        there = {
            VIRTUAL_SERVICE: annotated if self.weights else None,
            SERVICE: self.service,
            PODS: {"items": list(self.pods)},
            ENTRIES: {"items": list(self.entries)},
            SERVICE_ENTRIES: {"items": []},
        }
        found: Mapping[str, Any] | None = {**there, **self.more}[path]
        return found

    def pod(self, namespace: str, name: str, seconds: float) -> Page:
        self.asked.append(f"{namespace}/{name}")
        return self.pages[name]

    def vms(self, names: Sequence[str], seconds: float) -> Mapping[str, Page]:
        self.asked += names
        return {name: self.pages[name] for name in names}

    def step(self, at: int, source: str = "vm", target: str = "pods", **limits: Any) -> Step | Refusal:
        migration = Migration(
            host=HOST,
            namespace="vm-apps",
            wanted=Wanted(source=source, target=target, at=at, **limits),
            labels={"vm": {"version": "v1"}, "pods": {"version": "pods"}},
            vms={"10.77.0.21": "billing-1", "10.77.0.22": "billing-2"},
        )
        return step_of(migration, Sources(get=self.get, pod=self.pod, vms=self.vms))

    def refusal(self, at: int, **limits: Any) -> list[str]:
        found = self.step(at, **limits)
        assert isinstance(found, Refusal)
        return [reason.what for reason in found.reasons]


def test_nothing_is_asked_of_anybody_where_nothing_changes() -> None:
    mesh = Mesh()
    assert isinstance(mesh.step(30), Step)
    assert mesh.asked == [VIRTUAL_SERVICE]


def test_a_step_is_judged_by_the_targets_pods_alone() -> None:
    mesh = Mesh(
        pods=[pod("a"), pod("b"), pod("old", metadata={"deletionTimestamp": "x"}), pod("other", "v9")],
        entries=[entry("10.77.0.21")],
        pages={"a": page(50), "b": page(49)},
    )
    step = mesh.step(40)
    assert isinstance(step, Step)
    assert step.record.counts == {"pod a": Count(requests=50), "pod b": Count(requests=49)}
    assert sorted(mesh.asked) == sorted([VIRTUAL_SERVICE, SERVICE, PODS, ENTRIES, "vm-apps/a", "vm-apps/b"])
    assert mesh.refusal(40, max_error_rate=0, min_requests=100) == [
        "the proxies of pods have counted 99 requests since its proxies started, fewer than minRequests, 100"
    ]


def test_a_step_is_judged_by_the_targets_vms_alone() -> None:
    mesh = Mesh(
        weights={"pods": 50, "vm": 50},
        pods=[pod("a")],
        entries=[entry("10.77.0.21"), entry("10.77.0.22", healthy=False)],
        pages={"billing-1": page(90, 5), "billing-2": page(5)},
    )
    assert mesh.refusal(60, source="pods", target="vm") == [
        "5 of 100 requests to vm failed since its proxies started, 5 %, more than maxErrorRate, 1 %"
    ]
    assert {"billing-1", "billing-2"} <= set(mesh.asked)
    assert "vm-apps/a" not in mesh.asked


@pytest.mark.parametrize(
    ("found", "why"),
    [
        ({"pods": [pod("a", ready=False)]}, "pod a is not ready"),
        (
            {
                "pods": [
                    pod("a", status={"phase": "Running", "containerStatuses": [
                        {"state": {"running": {}}}, {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}
                    ]})
                ]
            },
            "pod a is not ready (CrashLoopBackOff)",
        ),
        ({"pods": [pod("a", status={"phase": "Pending"})]}, "pod a is not ready"),
        ({"pods": [pod("a", status={"phase": "Failed"})]}, ""),
    ],
)  # fmt: skip
def test_pods_that_are_not_healthy(found: dict[str, Any], why: str) -> None:
    mesh = Mesh(**found, pages={"a": page(100)})
    what = "pods has 0 healthy endpoints, fewer than minHealthy, 1"
    assert mesh.refusal(40) == [f"{what}: {why}" if why else f"{what}, and no other ones"]


@pytest.mark.parametrize(
    ("vm", "why"),
    [
        (entry("10.77.0.21", healthy=False), "vm billing-1 is unhealthy (Get http://x: refused)"),
        (entry("10.77.0.21", annotations={}), "vm billing-1 has no sidecar, so nobody knows its health"),
        (
            entry("10.77.0.21", annotations={"istio.io/autoRegistrationGroup": "billing"}),
            "vm billing-1 is not connected to istiod",
        ),
        ({**entry("10.77.0.21"), "status": {}}, "vm billing-1 is unhealthy"),
    ],
)
def test_vms_that_are_not_healthy(vm: dict[str, Any], why: str) -> None:
    mesh = Mesh(weights={"pods": 100}, entries=[vm])
    mesh.pages = {"billing-1": page(1)}
    assert mesh.refusal(10, source="pods", target="vm") == [
        f"vm has 0 healthy endpoints, fewer than minHealthy, 1: {why}"
    ]


def test_a_vm_without_a_probe_is_taken_for_healthy_as_istiod_does() -> None:
    annotations = {"istio.io/autoRegistrationGroup": "billing", "istio.io/connectedAt": "x"}
    vm = {**entry("10.77.0.21", annotations=annotations), "status": {}}
    assert isinstance(
        Mesh(weights={"pods": 100}, entries=[vm], pages={"billing-1": page(0)}).step(10, "pods", "vm"), Step
    )


@pytest.mark.parametrize(
    ("pods", "pages", "why"),
    [
        ([pod("a"), pod("b")], {"a": page(99), "b": Page(unread="is gone")}, "pod b: is gone"),
        ([pod("a"), pod("b", spec={"containers": [{"name": "app"}]})], {"a": page(99)}, "pod b: has no sidecar"),
    ],
)
def test_proxies_that_cannot_be_asked(pods: list[Any], pages: dict[str, Page], why: str) -> None:
    assert Mesh(pods=pods, pages=pages).refusal(40) == [f"the counters of pods could not be read: {why}"]


def test_a_vm_of_another_stack_cannot_be_asked() -> None:
    mesh = Mesh(weights={"pods": 50, "vm": 50}, entries=[entry("10.77.0.99")])
    assert mesh.refusal(60, source="pods", target="vm") == [
        "the counters of vm could not be read:"
        " vm billing-10.77.0.99-net1: is none of this stack's VMs, so nobody can ask it"
    ]


def test_a_pod_that_has_not_started_has_answered_nothing() -> None:
    waiting = pod("b", status={"phase": "Pending"})
    step = Mesh(pods=[pod("a"), waiting], pages={"a": page(99)}).step(40)
    assert isinstance(step, Step)
    assert step.record.counts["pod b"] == Count()


def test_no_proxy_is_asked_about_a_step_that_is_too_long() -> None:
    mesh = Mesh(pods=[pod("a")])
    assert mesh.refusal(41) == ["pods would go from 30 % to 41 %, by more than step, 10"]
    assert "vm-apps/a" not in mesh.asked


def test_ports_with_a_name() -> None:
    service = {
        "metadata": {"namespace": "vm-apps"},
        "spec": {"selector": {"app": "billing"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
    }
    step = Mesh(pods=[pod("a")], pages={"a": page(99)}, service=service).step(40)
    assert isinstance(step, Step)
    assert step.record.counts == {"pod a": Count(requests=99)}


def test_a_host_of_a_service_entry() -> None:
    entry_of_host = {
        "metadata": {"namespace": "vm-apps"},
        "spec": {
            "hosts": [HOST],
            "workloadSelector": {"labels": {"app": "billing"}},
            "ports": [{"name": "http", "number": 80, "targetPort": 8080}],
        },
    }
    mesh = Mesh(
        pods=[pod("a")], pages={"a": page(99)}, service=None, more={SERVICE_ENTRIES: {"items": [entry_of_host]}}
    )
    assert isinstance(mesh.step(40), Step)
    assert Mesh(service=None).refusal(40) == [
        "pods has 0 healthy endpoints, fewer than minHealthy, 1, and no other ones"
    ]


def test_no_answer_of_the_api_is_a_refusal() -> None:
    def silent(path: str, seconds: float) -> None:
        raise ApiError("the Kubernetes API did not answer within 10 s")

    mesh = Mesh()
    mesh.get = silent  # type: ignore[method-assign,assignment]  # a cluster that is off
    assert mesh.step(40) == Refusal(
        reasons=(Reason(what="the Kubernetes API did not answer within 10 s", right="an API server that answers"),)
    )
