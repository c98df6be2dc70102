"""Helm's two resources, by the `helm` binary: charts whose objects become resources, and releases that Helm keeps.

A chart is rendered as Pulumi's provider renders it (no hooks, the cluster's version and kinds, `lookup` works); a
release is installed, upgraded and removed by Helm itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import yaml

from lab.engine.diffs import diff_inputs
from lab.engine.providers import chart_children
from lab.engine.providers.base import CheckError, Child, Context, Diff, ProviderError, Values
from lab.engine.providers.kube_client import ApiError, KubeClient
from lab.engine.values import UNKNOWN, has_unknown

CHART: Final = "kubernetes:helm.sh/v4:Chart"
RELEASE: Final = "kubernetes:helm.sh/v3:Release"
_COMMON: Final = {"chart", "name", "namespace", "version", "repositoryOpts", "values", "skipAwait"}
_CHART_INPUTS: Final = _COMMON | {"skipCrds", "resourcePrefix"}
_RELEASE_INPUTS: Final = _COMMON | {"compat", "timeout", "createNamespace", "skipCrds"}
_TIMEOUT: Final = 300
_ABANDONED: Final = 60.0
"""Seconds for which an operation of a run that was killed may still go on before it counts as abandoned."""


class Helm:
    """Helm for one cluster.

    Args:
        client: The cluster.
        namespace: Where things go that name no namespace.
        is_namespaced: Tells of apiVersion and kind whether they belong into one.
    """

    def __init__(self, client: KubeClient, namespace: str, is_namespaced: Callable[[str, str], bool]) -> None:
        self._client, self._namespace, self._is_namespaced = client, namespace, is_namespaced

    def chart(self, name: str, inputs: Values, context: Context) -> list[Child]:
        """Render a chart; in a preview with values that are not known yet, there is nothing to show."""
        given = {key: value for key, value in inputs.items() if value is not None}
        _refuse_others(given, _CHART_INPUTS)
        if has_unknown(given):
            context.report("inputs are not known yet: the preview does not show this chart's resources")
            return []
        namespace = given.get("namespace") or self._namespace
        server = self._client.request("GET", "/version")
        arguments = ["template", given.get("name") or name, *_chart_reference(given), "--namespace", namespace]
        arguments += ["--no-hooks", "--dry-run=server", "--kube-version", server["gitVersion"]]
        arguments += [] if given.get("skipCrds") else ["--include-crds"]
        arguments += ["--api-versions", ",".join(self._client.api_versions())]
        documents = yaml.load_all(self._helm(arguments, given, context), Loader=_Loader)
        try:
            objects = [item for item in documents if item]
        except yaml.YAMLError as error:
            raise ProviderError(f"chart {given['chart']} renders to something that is not YAML: {error}") from None
        prefix = given.get("resourcePrefix", name)
        skip_await = bool(given.get("skipAwait"))
        return chart_children.children(objects, prefix, namespace, self._is_namespaced, skip_await=skip_await)

    def check(self, new: Values) -> dict[str, Any]:
        """Fill in a release's defaults and the chart's version; a chart that is not there is an error."""
        inputs = {key: value for key, value in new.items() if value is not None}
        _refuse_others(inputs, _RELEASE_INPUTS)
        if not inputs.get("name"):
            raise CheckError([("name", "is required: the embedded engine makes up no names")])
        inputs["namespace"] = inputs.get("namespace") or self._namespace
        if not inputs.get("skipAwait"):
            inputs.setdefault("timeout", _TIMEOUT)
        if not has_unknown({key: value for key, value in inputs.items() if key != "values"}):
            inputs["version"] = self._version(inputs)
        return inputs

    def diff(self, old: Values, new: Values) -> Diff:
        """Compare inputs; another name or namespace is another release."""
        return diff_inputs(old, new, [("name",), ("namespace",)])

    def create(self, inputs: Values, context: Context) -> tuple[str, dict[str, Any]]:
        """Install a release that must not exist yet, unless an earlier run of this resource began it."""
        identity = f"{inputs['namespace']}/{inputs['name']}"
        if context.preview:
            return "", {**inputs, "status": UNKNOWN}
        if self._status(inputs) and not context.adopt:
            raise ProviderError(
                f"Helm release {identity} already exists and this stack does not manage it; "
                f"uninstall it (helm uninstall -n {inputs['namespace']} {inputs['name']}) or choose another name"
            )
        return identity, self._install(inputs, context)

    def update(self, inputs: Values, context: Context) -> dict[str, Any]:
        """Upgrade a release to the new inputs."""
        if context.preview:
            return {**inputs, "status": UNKNOWN}
        return self._install(inputs, context)

    def delete(self, inputs: Values, context: Context) -> None:
        """Uninstall a release; Helm leaves what its resource policy keeps (such as Istio's CRDs)."""
        arguments = ["uninstall", inputs["name"], "--namespace", inputs["namespace"], "--ignore-not-found"]
        if not inputs.get("skipAwait"):
            arguments += ["--wait", "--timeout", _seconds(inputs, context)]
        self._helm(arguments, {}, context)

    def _install(self, inputs: Values, context: Context) -> dict[str, Any]:
        self._take_back_abandoned(inputs, context)
        name, namespace = inputs["name"], inputs["namespace"]
        arguments = ["upgrade", "--install", name, *_chart_reference(inputs), "--namespace", namespace]
        arguments += ["--reset-values", "--timeout", _seconds(inputs, context), "--output", "json"]
        arguments += [] if inputs.get("skipAwait") else ["--wait"]
        arguments += ["--create-namespace"] if inputs.get("createNamespace") else []
        arguments += ["--skip-crds"] if inputs.get("skipCrds") else []
        try:
            release = json.loads(self._helm(arguments, inputs, context))
        except ProviderError as error:
            if self._status(inputs):
                partial = {**inputs, "status": {"name": name, "namespace": namespace, "status": "failed"}}
                raise ProviderError(str(error), partial=(f"{namespace}/{name}", partial)) from None
            raise
        metadata = release["chart"]["metadata"]
        status = {
            "name": name,
            "namespace": namespace,
            "revision": release["version"],
            "status": release["info"]["status"],
            "chart": metadata["name"],
            "version": metadata["version"],
            "appVersion": metadata.get("appVersion", ""),
        }
        return {**inputs, "status": status}

    def _status(self, inputs: Values) -> str:
        """Return the status of the newest revision, "" where there is no release."""
        labels = {"owner": "helm", "name": inputs["name"]}
        try:
            found = self._client.list("v1", "Secret", inputs["namespace"], labels)
        except ApiError as error:
            raise ProviderError(f"Helm releases in {inputs['namespace']}: {error}") from None
        newest = max(found, key=lambda item: int(item["metadata"]["labels"]["version"]), default=None)
        return str(newest["metadata"]["labels"]["status"]) if newest else ""

    def _take_back_abandoned(self, inputs: Values, context: Context) -> None:
        """Make way: after a run that was killed, Helm may still be at work, or its release be locked for good."""
        waited = 0.0
        while (status := self._status(inputs)).startswith("pending-") and waited < _ABANDONED:
            context.report(f"the release is {status}: waiting for an earlier run of Helm")
            if context.cancelled.wait(2):
                raise ProviderError(f"interrupted; Helm release {inputs['name']} is {status}")
            waited += 2
        if status.startswith("pending-"):
            undo = "uninstall" if status == "pending-install" else "rollback"
            self._helm([undo, inputs["name"], "--namespace", inputs["namespace"], "--wait"], {}, context)

    def _version(self, inputs: Values) -> str:
        reference, file = _chart_reference(inputs), Path(inputs["chart"], "Chart.yaml")
        try:
            text = (
                file.read_text() if file.is_file() else self._helm(["show", "chart", *reference], {}, Context(urn=""))
            )
            return str(yaml.safe_load(text)["version"])
        except ProviderError as error:
            raise CheckError([("chart", str(error))]) from None
        except (OSError, yaml.YAMLError, LookupError, TypeError) as error:
            raise CheckError([("chart", f"{file} cannot be read: {error}")]) from None

    def _helm(self, arguments: Sequence[str], inputs: Values, context: Context) -> str:
        """Run helm with the inputs' values and return what it prints."""
        helm = shutil.which("helm")
        if helm is None:
            raise ProviderError("helm is not on PATH; Helm charts and releases need it")
        environment = {**os.environ}
        if self._client.kubeconfig:
            environment["KUBECONFIG"] = self._client.kubeconfig
        command = [helm, *arguments] + (["--kube-context", self._client.context] if self._client.context else [])
        with ExitStack() as stack:
            if inputs.get("values"):  # in a private file: values may be secret, and arguments show in ps
                file = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".yaml"))
                file.write(json.dumps(inputs["values"]))
                file.flush()
                command += ["--values", file.name]
            process = stack.enter_context(
                subprocess.Popen(
                    command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
                )
            )
            while True:
                try:
                    stdout, stderr = process.communicate(timeout=0.2)
                    break
                except subprocess.TimeoutExpired:
                    if context.cancelled.is_set():
                        process.terminate()
        if process.returncode:
            lines = [line for line in stderr.splitlines() if not line.startswith(("WARNING:", "W1", "I1"))]
            raise ProviderError(f"helm {arguments[0]} failed: " + "\n".join(lines).removeprefix("Error: ").strip())
        return stdout


class _Loader(yaml.CSafeLoader):
    """Reads manifests: timestamps and `=` stay text, as Kubernetes reads them."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if not tag.endswith((":timestamp", ":value"))]
    for first, found in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _chart_reference(inputs: Values) -> list[str]:
    chart, repository = inputs.get("chart"), inputs.get("repositoryOpts") or {}
    if not chart:
        raise CheckError([("chart", "is required")])
    path_like = chart.startswith((".", "/", "~")) or (chart.count("/") > 1 and "://" not in chart)
    if path_like and not repository.get("repo") and not Path(chart).exists():
        hint = "correct the path, or name a repository to take it from"
        raise CheckError([("chart", f"there is no chart at {Path(chart).absolute()}; {hint}")])
    unsupported = sorted(set(repository) - {"repo"})  # a password would show among the processes' arguments
    if unsupported:
        raise CheckError([(f"repositoryOpts.{key}", "is not supported by the embedded engine") for key in unsupported])
    arguments = [chart, *(["--repo", repository["repo"]] if repository.get("repo") else [])]
    local = Path(chart).exists() and not repository.get("repo")
    return arguments + (["--version", inputs["version"]] if inputs.get("version") and not local else [])


def _seconds(inputs: Values, context: Context) -> str:
    return f"{int(context.timeout or inputs.get('timeout') or _TIMEOUT)}s"


def _refuse_others(inputs: Values, known: set[str]) -> None:
    problems = [
        (key, "is not supported by the embedded engine")
        for key, value in sorted(inputs.items())
        if key not in known and value not in (False, "", 0)
    ]
    if problems:
        raise CheckError(problems)
