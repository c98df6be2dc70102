"""Renders Helm charts into manifests, by the `helm` binary and without a cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

SECONDS: Final = 120
"""How long Helm may take, with a chart's download."""
CLUSTER_WIDE: Final = frozenset(
    {
        "APIService",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "GatewayClass",
        "IngressClass",
        "MutatingWebhookConfiguration",
        "Namespace",
        "PersistentVolume",
        "PriorityClass",
        "RuntimeClass",
        "StorageClass",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
    }
)
"""Kinds that belong into no namespace, of those that charts and this program make."""


class ChartError(Exception):
    """A chart cannot be rendered."""


class _Loader(yaml.CSafeLoader):
    """Reads manifests: timestamps and `=` stay text, as Kubernetes reads them."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith((":timestamp", ":value"))]
    for first, found in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def command(chart: Mapping[str, Any], kubernetes: str) -> list[str]:
    """Helm's arguments for a chart's or release's inputs; its values come as a file.

    Args:
        chart: The inputs, as the program gives them.
        kubernetes: The version of Kubernetes that the chart is told of.
    """
    arguments = ["template", chart["name"], chart["chart"], "--namespace", chart["namespace"]]
    arguments += ["--no-hooks", "--include-crds", "--kube-version", kubernetes]
    repository = (chart.get("repositoryOpts") or {}).get("repo")
    arguments += ["--repo", repository] if repository else []
    return arguments + (["--version", chart["version"]] if chart.get("version") else [])


def render(chart: Mapping[str, Any], kubernetes: str) -> list[dict[str, Any]]:
    """Return a chart's objects, each with its namespace.

    Raises:
        ChartError: Helm is absent, fails, or renders something else than objects.
    """
    helm = shutil.which("helm")
    if helm is None:
        raise ChartError("helm is not on PATH; charts are rendered with it")
    title = f"chart {chart['chart']}"
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as values:  # private, and not among ps's arguments
        values.write(json.dumps(chart.get("values") or {}))
        values.flush()
        try:
            done = subprocess.run(
                [helm, *command(chart, kubernetes), "--values", values.name],
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise ChartError(f"{title}: helm has not ended after {SECONDS} s") from None
    if done.returncode:
        raise ChartError(f"{title}: {done.stderr.removeprefix('Error: ').strip()}")
    try:
        documents = [document for document in yaml.load_all(done.stdout, Loader=_Loader) if document]
    except yaml.YAMLError as error:
        raise ChartError(f"{title}: renders to something that is not YAML: {error}") from None
    return [_placed(item, chart["namespace"]) for document in documents for item in _single(document)]


def _single(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The objects of a document, which may be a list of them."""
    if str(document.get("kind", "")).endswith("List") and isinstance(document.get("items"), list):
        yield from document["items"]
    else:
        yield document


def _placed(obj: dict[str, Any], namespace: str) -> dict[str, Any]:
    if obj["kind"] in CLUSTER_WIDE or obj["metadata"].get("namespace"):
        return obj
    return {**obj, "metadata": {**obj["metadata"], "namespace": namespace}}
