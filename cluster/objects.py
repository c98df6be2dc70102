"""What is read of a cluster: its paths, its lists, and lists that several decisions share.

Everything here takes a `Get`, not a client, so that a decision can be tested with a table of answers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

Get = Callable[[str], Mapping[str, Any] | None]
"""GET of a path of the Kubernetes API: None where there is no such thing, `ApiError` where there is no answer."""

ENTRIES = "/apis/networking.istio.io/v1/workloadentries"
GROUPS = "/apis/networking.istio.io/v1/workloadgroups"


def at_one_moment(get: Get) -> Get:
    """The same, but each path is asked for once: decisions before a run share what they look at."""
    return functools.cache(get)


def items(get: Get, path: str) -> list[Mapping[str, Any]]:
    """The objects in a list; none where there is no such kind."""
    return list((get(path) or {}).get("items") or ())


def selecting(path: str, selector: str) -> str:
    """The path of those objects of a list that have some labels, as `app=istiod`."""
    return f"{path}?labelSelector={quote(selector, safe='')}" if selector else path


def secrets_path(namespace: str) -> str:
    """Where the API has a namespace's Secrets."""
    return f"/api/v1/namespaces/{namespace}/secrets"


def made_by_pulumi(obj: Mapping[str, Any]) -> bool:
    """Whether an object is a resource of some stack, or was changed by one."""
    managers = (entry.get("manager", "") for entry in obj["metadata"].get("managedFields") or ())
    return any(manager.startswith("pulumi-kubernetes") for manager in managers)


def live_istiods(get: Get, namespace: str, revision: str = "") -> list[Mapping[str, Any]]:
    """The istiod pods that run and are to go on: one that is terminating answers for no VM any more.

    Args:
        get: The cluster.
        namespace: Istio's.
        revision: Of that revision only, `default` for the plain one; empty for any.
    """
    selector = f"app=istiod,istio.io/rev={revision}" if revision else "app=istiod"
    pods = items(get, selecting(f"/api/v1/namespaces/{namespace}/pods", selector))
    return [pod for pod in pods if _runs(pod)]


def _runs(pod: Mapping[str, Any]) -> bool:
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
