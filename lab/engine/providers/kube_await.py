"""Waits until an object is ready, or until it is gone, and says of one that is neither in time what was missing.

Polling, because it survives whatever happens to a watch; half a second is little against what is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from lab.engine.providers import kube_objects, kube_ready
from lab.engine.providers.base import Context, ProviderError
from lab.engine.providers.kube_client import ApiError, Kind, KubeClient, Object, Unreachable

DEFAULT_TIMEOUT: Final = 600.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 0.5
_SETTLE: Final = 2.0
"""Seconds that a Service must be without any endpoint until that counts as meant so."""


class NotReady(Exception):
    """It was not ready in time, or never will be; carries the object as it was last."""

    def __init__(self, message: str, live: Object) -> None:
        super().__init__(message)
        self.live = live


def timeout_of(inputs: Mapping[str, Any], context: Context) -> float:
    """Return the seconds to wait: the program's customTimeouts, else the annotation, else ten minutes."""
    if context.timeout:
        return context.timeout
    text = kube_objects.annotation(inputs, kube_objects.TIMEOUT)
    return float(text) if text.isdecimal() else DEFAULT_TIMEOUT


def until_ready(client: KubeClient, kind: Kind, inputs: Object, live: Object, context: Context) -> Object:
    """Wait until an object that was just written is ready, and return it as it is then.

    Raises:
        NotReady: With what was missing.
    """
    check = _readiness(client, inputs, live)
    if check is None:
        return live
    timeout, metadata = timeout_of(inputs, context), live["metadata"]

    def look() -> str:
        nonlocal live
        try:
            found = client.get(kind, metadata.get("namespace"), metadata["name"])
            if found is None:
                raise kube_ready.Failed("it was deleted while it was waited for")
            live = found
            return check(live)
        except (ApiError, Unreachable) as error:
            return str(error)

    try:
        missing, interrupted = _poll(look, timeout, context)
    except kube_ready.Failed as error:
        raise NotReady(f"{error}{_evidence(client, live)}", live) from None
    if interrupted:
        raise NotReady(f"interrupted while waiting: {missing}", live)
    if missing:
        raise NotReady(f"not ready after {timeout:g} s: {missing}{_evidence(client, live)}", live)
    return live


def until_gone(client: KubeClient, kind: Kind, inputs: Object, uid: str, context: Context) -> None:
    """Wait until a deleted object is gone.

    Raises:
        ProviderError: It is still there, with what holds it.
    """
    skip = kube_objects.annotation(inputs, kube_objects.SKIP_AWAIT) == "true"
    if skip and inputs["kind"] in ("Namespace", "Deployment"):
        return
    timeout, metadata = timeout_of(inputs, context), inputs["metadata"]

    def look() -> str:
        live = client.get(kind, metadata.get("namespace"), metadata["name"])
        return "" if live is None or live["metadata"].get("uid") != uid else f"it is still there{_holding(live)}"

    missing, interrupted = _poll(look, timeout, context)
    if missing:
        why = "interrupted" if interrupted else f"not gone after {timeout:g} s"
        raise ProviderError(f"deleting {inputs['kind']} {kube_objects.identity(inputs)}: {why}: {missing}")


def _poll(look: Callable[[], str], timeout: float, context: Context) -> tuple[str, bool]:
    """Look until nothing is missing; return what still is after all, and whether the run was interrupted."""
    begun, pause, told = time.monotonic(), _FIRST_PAUSE, ""
    while missing := look():
        if missing != told:
            told = missing
            context.report(f"waiting: {missing}")
        interrupted = context.cancelled.wait(pause)
        if interrupted or time.monotonic() - begun > timeout:
            return missing, interrupted
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    return "", False


def _readiness(client: KubeClient, inputs: Object, live: Object) -> kube_ready.Check | None:
    if kube_objects.annotation(inputs, kube_objects.SKIP_AWAIT) == "true":
        return None
    if text := kube_objects.annotation(live, "pulumi.com/waitFor"):
        try:
            return kube_ready.wait_for(text)
        except ValueError as error:
            raise NotReady(f"annotation pulumi.com/waitFor: {error}", live) from None
    if (live["apiVersion"], live["kind"]) == ("v1", "Service"):
        return _service(client)
    return kube_ready.READY.get((live["apiVersion"], live["kind"]))


def _service(client: KubeClient) -> kube_ready.Check:
    empty_since: float | None = None

    def missing(service: Mapping[str, Any]) -> str:
        nonlocal empty_since
        lacking = kube_ready.load_balancer(service)
        if lacking or not kube_ready.has_endpoints(service):
            return lacking
        metadata = service["metadata"]
        labels = {"kubernetes.io/service-name": metadata["name"]}
        slices = client.list("discovery.k8s.io/v1", "EndpointSlice", metadata["namespace"], labels)
        ready, pending = kube_ready.endpoints(slices)
        if pending:
            empty_since = None
            return f"{pending} of {ready + pending} endpoints are not ready"
        if ready:
            return ""
        empty_since = empty_since or time.monotonic()
        return "" if time.monotonic() - empty_since > _SETTLE else "it selects no pods yet"

    return missing


def _evidence(client: KubeClient, live: Object) -> str:
    """Return what events say about an object that is not ready, and about its pods, a line each."""
    name, namespace = live["metadata"]["name"], live["metadata"].get("namespace")
    lines: list[str] = []
    try:
        events = client.list("v1", "Event", namespace, {}) if namespace else []
        warnings = [item for item in events if item.get("type") == "Warning"]
        warnings = [item for item in warnings if f"{item['involvedObject'].get('name')}-".startswith(f"{name}-")]
        warnings.sort(key=lambda item: item.get("lastTimestamp") or item.get("eventTime") or "")
        lines += [f"event {item.get('reason')}: {item.get('message')}" for item in warnings[-5:]]
    except (ApiError, Unreachable) as error:
        lines.append(f"(no more could be learnt: {error})")
    return "".join(f"\n  {line}" for line in dict.fromkeys(lines))


def _holding(live: Object) -> str:
    lines = [f"finalizer {name}" for name in live["metadata"].get("finalizers", [])]
    lines += [
        f"{item.get('reason')}: {item.get('message')}"
        for item in live.get("status", {}).get("conditions") or []
        if live["kind"] == "Namespace" and item.get("status") == "True"
    ]
    return "".join(f"\n  {line}" for line in lines)
