"""Pods that serve and call in namespaces of the stack's own, for tests of what the stack says of them."""

from __future__ import annotations

import json

import yaml
from pods import CONTAINERS
from stack import Kubectl

MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: %(name)s, namespace: %(namespace)s}
spec:
  selector: {matchLabels: {app: %(app)s, version: pod}}
  template:
    metadata:
      labels: {app: %(app)s, version: pod, sidecar.istio.io/inject: "true"}
      annotations: {proxy.istio.io/config: 'proxyMetadata: {ISTIO_META_DNS_CAPTURE: "true"}'}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
%(containers)s"""


def manifest(name: str, namespace: str, app: str) -> str:
    """The Deployment of a pod that asks for a sidecar and captures DNS."""
    return MANIFEST % {"name": name, "namespace": namespace, "app": app, "containers": CONTAINERS}


def run(kubectl: Kubectl, name: str, namespace: str, app: str = "") -> str:
    """Run a pod that asks for a sidecar and captures DNS; return its address."""
    kubectl("apply", "-f", "-", stdin=manifest(name, namespace, app or name))
    kubectl("-n", namespace, "rollout", "status", f"deploy/{name}", "--timeout=90s")
    pods = json.loads(kubectl("-n", namespace, "get", "pods", "-l", "version=pod", "-o", "json"))["items"]
    (address,) = [
        pod["status"]["podIP"]
        for pod in pods
        if pod["metadata"]["name"].startswith(f"{name}-") and "deletionTimestamp" not in pod["metadata"]
    ]
    return str(address)


def inside(kubectl: Kubectl, name: str, namespace: str) -> list[str]:
    """What runs a command in the pod."""
    return [*kubectl.argv, "-n", namespace, "exec", f"deploy/{name}", "-c", "client", "--"]


def gets_sidecar(kubectl: Kubectl, namespace: str, *, asks: bool) -> bool:
    """Whether istiod would give a new pod a sidecar: a dry run of the API server's asks its webhooks."""
    pod = yaml.safe_load(manifest("x", namespace, "x"))["spec"]["template"]
    labels = pod["metadata"]["labels"] if asks else {"app": "x"}
    metadata = {"name": "x", "namespace": namespace, "labels": labels}
    trial = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]}
    made = kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(trial))
    spec = json.loads(made)["spec"]
    return "istio-proxy" in {part["name"] for part in [*spec["containers"], *spec.get("initContainers", [])]}
