"""Looks at a control plane: what it consists of, whether its webhooks answer, and how far its proxies are.

`python -m registration.mesh_reader` takes a request on standard input and always prints a report: what does not answer
becomes a line of it, so the stack keeps its output.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from registration.mesh_state import ANSWERS, Answers, Request, Workload, parse, report

CALL_SECONDS = 10
POLL_SECONDS = 1.0
NOT_CALLED = "failed calling webhook"


_UNKNOWN: Mapping[str, Any] = {}
"""Stands for a workload that could not be asked for."""


class Unanswered(Exception):
    """A call failed; the message is for people."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where the facts come from; a test hands in its own."""

    kubectl: Callable[[Sequence[str], str], str]
    """Arguments and standard input to standard output; raises `Unanswered`."""
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
        except Unanswered as error:
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
        made = json.loads(_try(pod, cluster, "-o", "json"))
    except Unanswered as error:
        return str(error)
    spec = made["spec"]
    names = {one["name"] for one in [*spec["containers"], *spec.get("initContainers", [])]}
    return ANSWERS if "istio-proxy" in names else "a new pod gets no sidecar"


def validates(request: Request, cluster: Cluster) -> str:
    """Whether an object that istiod does not take is refused: of one that is only tried out."""
    wrong = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {
            "name": "istio-vm-mesh-trial",
            "namespace": request.istio_namespace,
            "labels": _revision(request),
        },
        "spec": {},
    }
    try:
        _try(wrong, cluster, "-o", "name")
    except Unanswered as error:
        said = str(error)
        return ANSWERS if "admission webhook" in said and "denied the request" in said else said
    return "takes a VirtualService without hosts"


def kubectl(kubeconfig: str | None, context: str | None) -> Callable[[Sequence[str], str], str]:
    """A `kubectl` as the program's other commands use it."""
    options = [f"--request-timeout={CALL_SECONDS}s"]
    options += [f"--kubeconfig={Path(kubeconfig).expanduser()}"] if kubeconfig else []
    options += [f"--context={context}"] if context else []

    def call(arguments: Sequence[str], stdin: str) -> str:
        command = ["kubectl", *options, *arguments]
        try:
            done = subprocess.run(
                command, input=stdin, capture_output=True, text=True, timeout=2 * CALL_SECONDS, check=False
            )
        except FileNotFoundError:
            raise Unanswered("kubectl is not on PATH") from None
        except subprocess.TimeoutExpired:
            raise Unanswered(f"no answer within {2 * CALL_SECONDS} s") from None
        if done.returncode:
            said = [line for line in done.stderr.strip().splitlines() if line]
            raise Unanswered(said[-1] if said else "kubectl failed")
        return done.stdout

    return call


def _try(obj: Mapping[str, Any], cluster: Cluster, *output: str) -> str:
    """Let the API server do all but keep an object."""
    return cluster.kubectl(["create", "--dry-run=server", *output, "-f", "-"], json.dumps(obj))


def _revision(request: Request) -> dict[str, str]:
    return {"istio.io/rev": request.revision} if request.revision else {}


def _workload(workload: Workload, cluster: Cluster) -> Mapping[str, Any] | None:
    where = [workload.kind, workload.name, f"--namespace={workload.namespace}"]
    text = cluster.kubectl(["get", *where, "--ignore-not-found", "-o", "json"], "")
    return dict(json.loads(text)) if text.strip() else None


def _istiod(request: Request) -> str:
    return f"istiod-{request.revision}" if request.revision else "istiod"


def _version(request: Request, cluster: Cluster) -> str:
    if not request.has_istiod:
        return ""
    service = f"/api/v1/namespaces/{request.istio_namespace}/services/{_istiod(request)}:15014/proxy/version"
    match = re.match(r"\d+\.\d+\.\d+(-(alpha|beta|rc)\.\d+)?", cluster.kubectl(["get", "--raw", service], ""))
    return match[0] if match else ""


def _proxies(request: Request, cluster: Cluster) -> list[Mapping[str, Any]]:
    """What every pod of istiod says of the proxies that are connected to it."""
    if not request.has_istiod:
        return []
    inside = f"--namespace={request.istio_namespace}"
    selector = f"app=istiod,istio.io/rev={request.revision or 'default'}"
    running = "--field-selector=status.phase=Running"
    pods = cluster.kubectl(["get", "pods", inside, "-l", selector, running, "-o", "name"], "").split()
    ask = ("pilot-discovery", "request", "GET", "/debug/syncz")
    return [
        proxy
        for pod in pods
        for proxy in json.loads(cluster.kubectl(["exec", pod, inside, "-c", "discovery", "--", *ask], "") or "[]")
    ]


def _pods(request: Request, cluster: Cluster) -> frozenset[str]:
    found = set()
    for namespace in request.vm_namespaces:
        names = cluster.kubectl(["get", "pods", f"--namespace={namespace}", "-o", "name"], "").split()
        found |= {f"{name.removeprefix('pod/')}.{namespace}" for name in names}
    return frozenset(found)


def main() -> int:
    """Request on standard input, report on standard output."""
    request = parse(sys.stdin.read())
    found = read(request, Cluster(kubectl=kubectl(request.kubeconfig, request.context)))
    sys.stdout.write(json.dumps(found, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
