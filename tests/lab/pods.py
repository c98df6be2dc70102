"""A pod in the mesh that serves and calls, for tests of traffic, with the whole mesh STRICT while it is there."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator

from stack import Kubectl

CONTAINERS = """\
      - name: hello
        image: lab.local/hello:1
        imagePullPolicy: IfNotPresent
        env: [{name: VERSION, value: pod}]
        ports: [{containerPort: 8080}]
      # The proxy's image has a shell and curl; as an application it is redirected like any other.
      - {name: client, image: "lab.local/istio/proxyv2:dev", imagePullPolicy: IfNotPresent, command: [sleep, infinity]}
"""
"""An application that serves, and one that calls."""
MANIFESTS = (
    """
apiVersion: v1
kind: Namespace
metadata: {name: traffic, labels: {istio-injection: enabled}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: hello, namespace: traffic}
spec:
  selector: {matchLabels: {app: hello}}
  template:
    metadata: {labels: {app: hello, version: pod}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
"""
    + CONTAINERS
    + """---
apiVersion: v1
kind: Service
metadata: {name: hello, namespace: traffic}
spec: {selector: {app: hello}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""
)


@contextlib.contextmanager
def meshed_pod(kubectl: Kubectl) -> Iterator[str]:
    """Run the pod and yield its address."""
    kubectl("apply", "-f", "-", stdin=MANIFESTS)
    kubectl("-n", "traffic", "rollout", "status", "deploy/hello", "--timeout=90s")
    pods = json.loads(kubectl("-n", "traffic", "get", "pods", "-l", "app=hello", "-o", "json"))["items"]
    yield pods[0]["status"]["podIP"]
    kubectl("delete", "-f", "-", "--wait=true", stdin=MANIFESTS)


def in_pod(kubectl: Kubectl) -> list[str]:
    """What runs a command in the pod."""
    return [*kubectl.argv, "-n", "traffic", "exec", "deploy/hello", "-c", "client", "--"]


def curl(prefix: list[str], url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*prefix, "curl", "-sS", "--max-time", "5", url], capture_output=True, text=True, timeout=30)
