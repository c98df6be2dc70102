"""Asks the cluster what a migration's next step needs to know: one deadline for all of it.

Kubernetes and the pods' proxies are asked through its API, the VMs' proxies over ssh. Nothing is asked of a side of
which nothing depends, and of no proxy at all where the stack file asks for what is in force.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from cluster.errors import ApiError
from cluster.objects import ENTRIES, selecting
from migration import counters
from migration.decision import Count, InForce, Member, Reason, Refusal, Step, Wanted, decide, gains, stays, too_far
from migration.endpoints import (
    Endpoint,
    Selection,
    in_subset,
    pods_of,
    selection_of_entry,
    selection_of_service,
    vms_of,
)
from migration.in_force import in_force

DEADLINE_SECONDS = 10.0
"""For all that is asked about one host."""
SERVICE_ENTRIES = "/apis/networking.istio.io/v1/serviceentries"
PILOT_AGENT = ("pilot-agent", "request", "GET", counters.PATH)
"""The command that prints a proxy's counters, in its container and on its VM."""
_AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Migration:
    """A host whose requests move."""

    host: str
    namespace: str
    """Namespace of its VirtualService, which is named like the host."""
    wanted: Wanted
    labels: Mapping[str, Mapping[str, str]]
    """Labels of both subsets, by name."""
    vms: Mapping[str, str] = field(default_factory=dict)
    """Names of the stack's VMs by their addresses."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a proxy shows of its counters, or why it could not be asked."""

    text: str = ""
    unread: str = ""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the facts come from; a test hands in its own."""

    get: Callable[[str, float], Mapping[str, Any] | None]
    """GET of a path of the Kubernetes API, within so many seconds; None where there is no such path, `ApiError` where
    there is no answer."""
    pod: Callable[[str, str, float], Page]
    """Counters of a pod's proxy, by namespace and name."""
    vms: Callable[[Sequence[str], float], Mapping[str, Page]]
    """Counters of the proxies of VMs, by the VMs' names."""
    clock: Callable[[], float] = time.monotonic


def step_of(migration: Migration, sources: Sources) -> Step | Refusal:
    """The step that the stack file asks for, or why it is not taken."""
    end = sources.clock() + DEADLINE_SECONDS
    wanted = migration.wanted
    try:
        path = f"/apis/networking.istio.io/v1/namespaces/{migration.namespace}/virtualservices/{migration.host}"
        found = in_force(migration.host, sources.get(path, end - sources.clock()))
        if stays(found, wanted):
            return decide(found, wanted, {})
        sides = _sides(migration, found, sources, end)
    except ApiError as error:
        return Refusal(reasons=(Reason(what=str(error), right="an API server that answers"),))
    return decide(found, wanted, sides)


def _sides(migration: Migration, found: InForce, sources: Sources, end: float) -> dict[str, list[Member]]:
    """Both sides, with the counters of those that they are needed of."""
    wanted = migration.wanted
    selection = _selection(migration.host, sources, end)
    endpoints = _endpoints(selection, sources, end) if selection else []
    sides = {name: in_subset(endpoints, labels) for name, labels in migration.labels.items()}
    judged = gains(found, wanted)
    # What the target has counted is written down with the step, also on a way back.
    counting = {wanted.target, *(gain.subset for gain in judged if gain.judged_by_errors)}
    if any(too_far(gain, wanted) for gain in judged) and (found.weights is not None or endpoints):
        counting = set()
    asked = [endpoint for name in counting for endpoint in sides.get(name, ()) if not endpoint.proxy]
    pages = _pages(migration, selection.namespace if selection else "", asked, sources, end)
    return {
        name: [_member(migration, endpoint, pages.get(endpoint.name)) for endpoint in side]
        for name, side in sides.items()
    }


def _selection(host: str, sources: Sources, end: float) -> Selection | None:
    """What the host stands for."""
    name, _, rest = host.partition(".")
    namespace, _, domain = rest.partition(".")
    if domain.startswith("svc."):
        path = f"/api/v1/namespaces/{namespace}/services/{name}"
        if service := sources.get(path, end - sources.clock()):
            return selection_of_service(service)
    entries = sources.get(SERVICE_ENTRIES, end - sources.clock()) or {}
    return selection_of_entry(host, entries.get("items") or ())


def _endpoints(selection: Selection, sources: Sources, end: float) -> list[Endpoint]:
    labels = ",".join(f"{key}={value}" for key, value in sorted(selection.labels.items()))
    path = selecting(f"/api/v1/namespaces/{selection.namespace}/pods", labels)
    pods = sources.get(path, end - sources.clock()) or {}
    path = ENTRIES.replace("workloadentries", f"namespaces/{selection.namespace}/workloadentries")
    entries = sources.get(path, end - sources.clock()) or {}
    return pods_of(selection, pods.get("items") or ()) + vms_of(selection, entries.get("items") or ())


def _pages(
    migration: Migration, namespace: str, endpoints: Sequence[Endpoint], sources: Sources, end: float
) -> dict[str, Page]:
    """What every proxy shows, by its endpoint's name; all are asked at once."""
    pods = [endpoint.name for endpoint in endpoints if endpoint.kind == "pod"]
    vms = {migration.vms[e.address]: e.name for e in endpoints if e.kind == "vm" and e.address in migration.vms}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked = {pod: pool.submit(_pod_page, sources, namespace, pod, end) for pod in pods}
        on_vms = sources.vms(list(vms), end - sources.clock())
        return {pod: page.result() for pod, page in asked.items()} | {vms[vm]: page for vm, page in on_vms.items()}


def _pod_page(sources: Sources, namespace: str, pod: str, end: float) -> Page:
    return sources.pod(namespace, pod, end - sources.clock())


def _member(migration: Migration, endpoint: Endpoint, page: Page | None) -> Member:
    name = f"{endpoint.kind} {migration.vms.get(endpoint.address, endpoint.name)}"
    unread, count = "", None
    if endpoint.proxy == "has not started":
        count = Count()
    elif endpoint.proxy:
        unread = endpoint.proxy
    elif page is None:
        unread = "is none of this stack's VMs, so nobody can ask it"
    elif page.unread:
        unread = page.unread
    else:
        count = counters.counted(page.text, migration.host, endpoint.ports)
    return Member(name=name, unhealthy=endpoint.unhealthy, unjudged=endpoint.unjudged, count=count, unread=unread)


def on_vm() -> str:
    """The command for a VM, where the package has put pilot-agent into a folder that ssh may not have on its path."""
    return f"/usr/local/bin/{shlex.join(PILOT_AGENT)}"
