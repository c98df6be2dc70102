"""Looks at a control plane: what it consists of, whether its webhooks answer, and how far its proxies are.

What does not answer becomes a line of the report, so the stack keeps its output.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from cluster.client import ApiError, Client
from cluster.objects import items, live_istiods
from registration.mesh_state import ANSWERS, Answers, Request, Workload, report

POLL_SECONDS = 1.0
ISTIO_API = "networking.istio.io/v1"
TRIAL = "dryRun=All"
"""Lets the API server do all but keep an object."""

_UNKNOWN: Mapping[str, Any] = {}
"""Stands for a workload that could not be asked for."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where the facts come from; a test hands in its own."""

    client: Client
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def read(request: Request, cluster: Cluster) -> dict[str, Any]:
    """The report, after waiting for what is not ready, up to the request's deadline."""
    deadline = cluster.now() + request.deadline_seconds
    while True:
        found = report(request, look(request, cluster))
        if found["ready"] or cluster.now() >= deadline:
            return found
        cluster.sleep(POLL_SECONDS)


def look(request: Request, cluster: Cluster) -> Answers:
    """What is found now; everything is asked at once."""
    problems: list[str] = []

    def attempt(what: str, action: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return action()
        except ApiError as error:
            problems.append(f"{what}: {error}")
            return otherwise

    with ThreadPoolExecutor(max_workers=8) as pool:
        workloads = {
            one.full_name: pool.submit(attempt, one.full_name, partial(_workload, one, cluster), _UNKNOWN)
            for one in request.workloads
        }
        injection = pool.submit(injects, request, cluster)
        validation = pool.submit(validates, request, cluster)
        version = pool.submit(attempt, "istiod's version", lambda: _version(request, cluster), "")
        proxies = pool.submit(attempt, "proxies", lambda: _proxies(request, cluster), [])
        pods = pool.submit(attempt, "pods", lambda: _pods(request, cluster), frozenset())
    return Answers(
        version=version.result(),
        workloads={name: one.result() for name, one in workloads.items() if one.result() is not _UNKNOWN},
        webhooks={"injection": injection.result(), "validation": validation.result()},
        proxies=proxies.result(),
        pods=pods.result(),
        problems=tuple(sorted(problems)),
    )


def injects(request: Request, cluster: Cluster) -> str:
    """Whether a new pod gets a sidecar: of one that is only tried out."""
    labels = {"sidecar.istio.io/inject": "true", **_revision(request)}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "istio-vm-mesh-trial", "namespace": request.istio_namespace, "labels": labels},
        "spec": {"containers": [{"name": "trial", "image": "trial"}]},
    }
    try:
        made = cluster.client.post(f"/api/v1/namespaces/{request.istio_namespace}/pods?{TRIAL}", pod)
    except ApiError as error:
        return str(error)
    spec = made["spec"]
    names = {one["name"] for one in [*spec["containers"], *spec.get("initContainers", [])]}
    return ANSWERS if "istio-proxy" in names else "a new pod gets no sidecar"


def validates(request: Request, cluster: Cluster) -> str:
    """Whether an object that istiod does not take is refused: of one that is only tried out."""
    wrong = {
        "apiVersion": ISTIO_API,
        "kind": "VirtualService",
        "metadata": {
            "name": "istio-vm-mesh-trial",
            "namespace": request.istio_namespace,
            "labels": _revision(request),
        },
        "spec": {},
    }
    try:
        cluster.client.post(f"/apis/{ISTIO_API}/namespaces/{request.istio_namespace}/virtualservices?{TRIAL}", wrong)
    except ApiError as error:
        said = str(error)
        return ANSWERS if "admission webhook" in said and "denied the request" in said else said
    return "takes a VirtualService without hosts"


def _revision(request: Request) -> dict[str, str]:
    return {"istio.io/rev": request.revision} if request.revision else {}


def _workload(workload: Workload, cluster: Cluster) -> Mapping[str, Any] | None:
    return cluster.client.get(f"/apis/apps/v1/namespaces/{workload.namespace}/{workload.kind}/{workload.name}")


def _istiod(request: Request) -> str:
    return f"istiod-{request.revision}" if request.revision else "istiod"


def _version(request: Request, cluster: Cluster) -> str:
    if not request.has_istiod:
        return ""
    service = f"/api/v1/namespaces/{request.istio_namespace}/services/{_istiod(request)}:15014/proxy/version"
    match = re.match(r"\d+\.\d+\.\d+(-(alpha|beta|rc)\.\d+)?", cluster.client.get_text(service))
    return match[0] if match else ""


def _proxies(request: Request, cluster: Cluster) -> list[Mapping[str, Any]]:
    """What every pod of istiod says of the proxies that are connected to it."""
    if not request.has_istiod:
        return []
    pods = live_istiods(cluster.client.get, request.istio_namespace, request.revision or "default")
    ask = ("pilot-discovery", "request", "GET", "/debug/syncz")
    return [
        proxy
        for pod in pods
        for proxy in json.loads(
            cluster.client.exec(request.istio_namespace, pod["metadata"]["name"], "discovery", ask) or "[]"
        )
    ]


def _pods(request: Request, cluster: Cluster) -> frozenset[str]:
    return frozenset(
        f"{pod['metadata']['name']}.{namespace}"
        for namespace in request.vm_namespaces
        for pod in items(cluster.client.get, f"/api/v1/namespaces/{namespace}/pods")
    )
