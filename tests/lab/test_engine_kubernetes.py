"""The engine's kubernetes provider on the lab's API server, with the lab's Helm and kubelet: what no fake can tell."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stack import PROJECT, Kubectl

from lab.engine.providers.base import CheckError, Context, ProviderError
from lab.engine.providers.helm import CHART, RELEASE
from lab.engine.providers.kubernetes import KubernetesProvider
from lab.engine.values import UNKNOWN, Secret
from lab.runtime import Lab

pytestmark = pytest.mark.lab

CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
DEPLOYMENT = "kubernetes:apps/v1:Deployment"
NAMESPACE = "kubernetes:core/v1:Namespace"
SERVICE = "kubernetes:core/v1:Service"
KUBECONFIG = str(PROJECT / ".lab/kubeconfig")


def context(name: str = "thing", **options: Any) -> Context:
    return Context(urn=f"urn:pulumi:dev::p::type::{name}", **options)


@pytest.fixture(autouse=True)
def tools(lab_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", lab_environment["PATH"])


@pytest.fixture
def provider(lab: Lab) -> KubernetesProvider:
    return KubernetesProvider({"kubeconfig": KUBECONFIG})


@pytest.fixture
def namespace(provider: KubernetesProvider, kubectl: Kubectl) -> Iterator[str]:
    name = f"providers-{secrets.token_hex(3)}"
    inputs = provider.check(NAMESPACE, None, {"metadata": {"name": name}}, name="ns")
    provider.create(NAMESPACE, inputs, context(name))
    yield name
    kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


def test_a_patch_gives_back_what_it_owned_and_nothing_else(
    provider: KubernetesProvider, namespace: str, kubectl: Kubectl
) -> None:
    kubectl("label", "--field-manager=somebody", "namespace", namespace, "theirs=1", "both=2")
    patch = {"metadata": {"name": namespace, "labels": {"both": "2", "ours": "3"}}}
    type_ = "kubernetes:core/v1:NamespacePatch"
    inputs = provider.check(type_, None, patch, name="patch")
    with pytest.raises(ProviderError, match="is not there; a patch needs an object"):
        provider.create(type_, {**inputs, "metadata": {"name": "nobodys"}}, context("nobodys"))
    id_, outputs = provider.create(type_, inputs, context("patch"))

    def labels() -> dict[str, str]:
        found = json.loads(kubectl("get", "namespace", namespace, "-o", "json"))["metadata"]["labels"]
        return {key: value for key, value in found.items() if "/" not in key}

    assert id_ == namespace
    assert labels() == {"theirs": "1", "both": "2", "ours": "3"}
    provider.delete(type_, id_, inputs, outputs, context("patch"))
    assert labels() == {"theirs": "1", "both": "2"}
    provider.delete(type_, id_, inputs, outputs, context("patch"))  # a second time, as after a run that was killed


Make = Callable[..., tuple[dict[str, Any], dict[str, Any]]]


@pytest.fixture
def make(provider: KubernetesProvider, namespace: str) -> Make:
    """Checks and creates an object in the test's namespace; returns inputs and outputs."""

    def create(type_: str, name: str, timeout: float | None = 60, **fields: Any) -> tuple[dict[str, Any], Any]:
        metadata = {"name": name, "namespace": namespace} | fields.pop("metadata", {})
        inputs = provider.check(type_, None, {"metadata": metadata} | fields, name=name)
        return inputs, provider.create(type_, inputs, context(name, timeout=timeout))[1]

    return create


def workload(image: str, **spec: Any) -> dict[str, Any]:
    labels = {"app": "it"}
    container = {"name": "c", "image": image, "imagePullPolicy": "IfNotPresent"}
    template = {
        "metadata": {"labels": labels, "annotations": {"sidecar.istio.io/inject": "false"}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }
    return {"selector": {"matchLabels": labels}, "template": template} | spec


class TestObjects:
    def test_preview_changes_nothing_and_needs_neither_namespace_nor_kind(
        self, provider: KubernetesProvider, namespace: str, kubectl: Kubectl
    ) -> None:
        inputs = provider.check(
            CONFIG_MAP, None, {"metadata": {"name": "c", "namespace": namespace}, "data": {"a": "b"}}, name="c"
        )
        id_, outputs = provider.create(CONFIG_MAP, inputs, context(preview=True))
        assert (id_, outputs["data"]) == ("", {"a": "b"})
        assert (
            json.loads(
                kubectl(
                    "get", "configmap", "-n", namespace, "-o", "json", inputs["metadata"]["name"], "--ignore-not-found"
                )
                or "{}"
            )
            == {}
        )
        inputs["metadata"]["namespace"] = "comes-in-the-same-run"
        assert provider.create(CONFIG_MAP, inputs, context(preview=True)) == ("", inputs)
        thing = provider.check("kubernetes:example.com/v1:Thing", None, {"metadata": {"name": "t"}}, name="t")
        assert provider.create("kubernetes:example.com/v1:Thing", thing, context(preview=True)) == ("", thing)

    def test_preview_says_what_the_api_server_would_refuse(self, provider: KubernetesProvider, namespace: str) -> None:
        bad = {"metadata": {"name": "s", "namespace": namespace}, "spec": {"ports": [{"port": 0}]}}
        inputs = provider.check(SERVICE, None, bad, name="s")
        with pytest.raises(ProviderError, match=rf"Service {namespace}/s: .*must be between 1 and 65535"):
            provider.create(SERVICE, inputs, context(preview=True))

    def test_create_twice_by_the_same_resource_continues_and_by_another_fails(
        self, provider: KubernetesProvider, make: Make, namespace: str
    ) -> None:
        inputs, first = make(CONFIG_MAP, "c", data={"a": "1"})
        _, again = provider.create(CONFIG_MAP, inputs, context("c"))
        assert again["metadata"]["uid"] == first["metadata"]["uid"]
        with pytest.raises(ProviderError, match=rf"ConfigMap {namespace}/c already exists and this stack does not"):
            provider.create(CONFIG_MAP, inputs, context("another"))
        _, adopted = provider.create(CONFIG_MAP, inputs, context("another", adopt=True))
        assert adopted["metadata"]["uid"] == first["metadata"]["uid"]

    def test_update_takes_away_what_is_no_longer_named_and_leaves_what_others_own(
        self, provider: KubernetesProvider, make: Make, namespace: str, kubectl: Kubectl
    ) -> None:
        inputs, outputs = make(CONFIG_MAP, "c", data={"a": "1", "b": "2"}, metadata={"labels": {"x": "y"}})
        kubectl("label", "configmap", "-n", namespace, "c", "theirs=kept")
        wanted = inputs | {"data": {"b": "3"}, "metadata": {"name": "c", "namespace": namespace}}
        dry = provider.update(CONFIG_MAP, "c", inputs, outputs, wanted, context("c", preview=True))
        assert dry["data"] == {"b": "3"}
        live = provider.update(CONFIG_MAP, "c", inputs, outputs, wanted, context("renamed"))
        assert (live["data"], live["metadata"]["labels"]) == ({"b": "3"}, {"theirs": "kept"})
        assert live["metadata"]["uid"] == outputs["metadata"]["uid"] == dry["metadata"]["uid"]

    def test_conflict_names_the_other_manager(
        self, provider: KubernetesProvider, make: Make, namespace: str, kubectl: Kubectl
    ) -> None:
        inputs, outputs = make(CONFIG_MAP, "c", data={"a": "1"})
        theirs = json.dumps(inputs | {"data": {"a": "theirs"}})
        kubectl("apply", "--server-side", "--force-conflicts", "--field-manager=them", "-f", "-", stdin=theirs)
        wanted = inputs | {"data": {"a": "2"}}
        with pytest.raises(ProviderError, match=r'conflict with "them".*patchForce'):
            provider.update(CONFIG_MAP, "c", inputs, outputs, wanted, context("c"))
        wanted["metadata"] = wanted["metadata"] | {"annotations": {"pulumi.com/patchForce": "true"}}
        assert provider.update(CONFIG_MAP, "c", inputs, outputs, wanted, context("c"))["data"] == {"a": "2"}

    def test_secret_is_secret_in_the_outputs(self, make: Make) -> None:
        _, outputs = make("kubernetes:core/v1:Secret", "s", stringData={"a": "text"})
        assert outputs["data"] == Secret({"a": base64.b64encode(b"text").decode()})
        assert "managedFields" not in outputs["metadata"]

    def test_delete_waits_and_what_is_gone_is_no_error(
        self, provider: KubernetesProvider, make: Make, namespace: str, kubectl: Kubectl
    ) -> None:
        inputs, outputs = make(CONFIG_MAP, "c", data={}, metadata={"finalizers": ["example.com/hold"]})
        with pytest.raises(ProviderError, match=r"not gone after 0\.5 s: .*\n  finalizer example.com/hold"):
            provider.delete(CONFIG_MAP, "c", inputs, outputs, context("c", timeout=0.5))
        kubectl("patch", "configmap", "-n", namespace, "c", "--type=merge", '-p={"metadata":{"finalizers":null}}')
        provider.delete(CONFIG_MAP, "c", inputs, outputs, context("c"))
        provider.delete(CONFIG_MAP, "c", inputs, outputs, context("c"))

    def test_delete_of_a_namespace_waits_until_all_in_it_is_gone(
        self, provider: KubernetesProvider, make: Make, namespace: str, kubectl: Kubectl
    ) -> None:
        make(CONFIG_MAP, "c")
        inputs = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        provider.delete(NAMESPACE, namespace, inputs, {}, context(namespace, timeout=60))
        assert kubectl("get", "namespace", namespace, "--ignore-not-found") == ""

    def test_kept_by_helms_resource_policy(
        self, provider: KubernetesProvider, make: Make, namespace: str, kubectl: Kubectl
    ) -> None:
        keep = {"annotations": {"helm.sh/resource-policy": "keep"}}
        inputs, outputs = make(CONFIG_MAP, "c", metadata=keep)
        provider.delete(CONFIG_MAP, "c", inputs, outputs, context("c"))
        assert "c" in kubectl("get", "configmap", "-n", namespace, "c", "-o", "name")

    def test_unreachable_cluster_says_where_and_which_kubeconfig(self, tmp_path: Path) -> None:
        file = tmp_path / "kubeconfig"
        file.write_text(
            "clusters: [{name: k, cluster: {server: 'https://127.0.0.1:1'}}]\nusers: [{name: u, user: {}}]\n"
            "contexts: [{name: c, context: {cluster: k, user: u}}]\ncurrent-context: c\n"
        )
        unreachable = KubernetesProvider({"kubeconfig": str(file)})
        with pytest.raises(ProviderError, match=rf"unreachable at https://127\.0\.0\.1:1: .*refused.*{file}"):
            unreachable.check(CONFIG_MAP, None, {"metadata": {"name": "c"}}, name="c")


class TestAwaits:
    def test_deployment_and_services(self, provider: KubernetesProvider, make: Make, namespace: str) -> None:
        reports: list[str] = []
        inputs, outputs = make(DEPLOYMENT, "d", spec=workload("lab.local/hello:1", replicas=1))
        assert outputs["status"]["availableReplicas"] == 1
        ports = [{"port": 80, "targetPort": 8080}]
        _, service = make(SERVICE, "s", spec={"selector": {"app": "it"}, "ports": ports})
        assert service["spec"]["clusterIP"]
        _, balancer = make(SERVICE, "lb", spec={"type": "LoadBalancer", "selector": {"app": "it"}, "ports": ports})
        assert balancer["status"]["loadBalancer"]["ingress"]
        begun = time.monotonic()
        make(SERVICE, "selects-nothing", spec={"selector": {"app": "nobody"}, "ports": ports})
        make(SERVICE, "headless", spec={"clusterIP": "None", "selector": {"app": "nobody"}, "ports": ports})
        assert time.monotonic() - begun < 5
        wanted = inputs | {"spec": workload("lab.local/hello:1", replicas=2)}
        live = provider.update(
            DEPLOYMENT, "d", inputs, outputs, wanted, context("d", timeout=60, report=reports.append)
        )
        assert live["status"]["availableReplicas"] == 2
        assert any("waiting: " in line for line in reports)

    def test_deployment_that_cannot_start_says_why_and_is_kept(self, make: Make, namespace: str) -> None:
        with pytest.raises(ProviderError, match="not ready after 8 s") as failure:
            make(DEPLOYMENT, "d", timeout=8, spec=workload("lab.local/none:1"))
        assert "ErrImage" in str(failure.value) or "ImagePull" in str(failure.value)
        assert failure.value.partial is not None
        id_, outputs = failure.value.partial
        assert (id_, outputs["kind"]) == (f"{namespace}/d", "Deployment")

    def test_skip_await(self, make: Make) -> None:
        skip = {"annotations": {"pulumi.com/skipAwait": "true"}}
        begun = time.monotonic()
        make(DEPLOYMENT, "d", metadata=skip, spec=workload("lab.local/none:1"))
        assert time.monotonic() - begun < 5

    def test_interrupt_ends_the_wait(self, make: Make, provider: KubernetesProvider, namespace: str) -> None:
        inputs = provider.check(
            DEPLOYMENT, None, {"metadata": {"name": "d", "namespace": namespace}, "spec": workload("none")}, name="d"
        )
        cancelled = threading.Event()
        threading.Timer(1, cancelled.set).start()
        with pytest.raises(ProviderError, match="interrupted while waiting"):
            provider.create(DEPLOYMENT, inputs, context("d", cancelled=cancelled))

    def test_wait_for_and_definitions(self, provider: KubernetesProvider, make: Make, namespace: str) -> None:
        group = f"{namespace}.example.com"
        type_ = "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition"
        schema = {"openAPIV3Schema": {"type": "object", "x_kubernetes_preserve_unknown_fields": True}}
        spec = {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        }
        definition = provider.check(type_, None, {"metadata": {"name": f"things.{group}"}, "spec": spec}, name="crd")
        _, outputs = provider.create(type_, definition, context("crd"))
        try:
            wait = {"annotations": {"pulumi.com/waitFor": '["jsonpath={.status.phase}=Done", "condition=Ready"]'}}
            with pytest.raises(ProviderError, match=r"not ready after 1 s: \{\.status\.phase\} selects nothing; cond"):
                make(f"kubernetes:{group}/v1:Thing", "waits", timeout=1, metadata=wait)
            status = {"phase": "Done", "conditions": [{"type": "Ready", "status": "True"}]}
            make(f"kubernetes:{group}/v1:Thing", "done", metadata=wait, status=status)
            provider.update(type_, "crd", definition, outputs, definition, context("crd"))
        finally:
            provider.delete(type_, "crd", definition, outputs, context("crd"))
        provider.delete(
            f"kubernetes:{group}/v1:Thing",
            "x",
            {"apiVersion": f"{group}/v1", "kind": "Thing", "metadata": {"name": "done", "namespace": namespace}},
            {},
            context("done"),
        )


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A chart with an object that waits, a secret, a hook, and a look at the cluster."""
    folder = tmp_path / "chart"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: sample\nversion: 1.2.3\nappVersion: '4'\n")
    (folder / "templates/all.yaml").write_text(
        """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data:
  value: {{ .Values.value | quote }}
  seen: {{ (lookup "v1" "Namespace" "" "default").metadata.name | quote }}
---
apiVersion: v1
kind: Secret
metadata: {name: hidden}
stringData: {a: b}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: hook, annotations: {helm.sh/hook: pre-install}}
"""
    )
    return folder


class TestHelm:
    def test_chart_renders_to_resources(self, provider: KubernetesProvider, chart: Path, namespace: str) -> None:
        inputs = {"chart": str(chart), "namespace": namespace, "values": {"value": 1}}
        children = provider.construct(CHART, "it", inputs, context())
        assert children is not None
        assert {child.name: child.type for child in children} == {
            f"it:{namespace}/settings": CONFIG_MAP,
            f"it:{namespace}/hidden": "kubernetes:core/v1:Secret",
        }
        settings = next(child for child in children if child.type == CONFIG_MAP)
        assert settings.inputs["data"] == {"value": "1", "seen": "default"}
        assert provider.construct(CONFIG_MAP, "it", {}, context()) is None
        reports: list[str] = []
        unknown = inputs | {"values": {"value": UNKNOWN}}
        assert provider.construct(CHART, "it", unknown, context(preview=True, report=reports.append)) == []
        assert reports

    @pytest.mark.parametrize("type_", [CHART, RELEASE])
    def test_missing_chart(self, provider: KubernetesProvider, type_: str) -> None:
        with pytest.raises(CheckError, match=r"chart: there is no chart at /.*/none; correct the path"):
            if type_ == CHART:
                provider.construct(type_, "it", {"chart": "./none"}, context())
            else:
                provider.check(type_, None, {"chart": "./none", "name": "it"}, name="it")

    def test_chart_that_does_not_render(self, provider: KubernetesProvider, chart: Path) -> None:
        (chart / "templates/bad.yaml").write_text('{{ fail "value is not to be" }}')
        with pytest.raises(ProviderError, match=r"helm template failed: .*value is not to be"):
            provider.construct(CHART, "it", {"chart": str(chart)}, context())

    def test_release(self, provider: KubernetesProvider, chart: Path, namespace: str, kubectl: Kubectl) -> None:
        given = {"chart": str(chart), "name": "it", "namespace": namespace, "values": {"value": "first"}}
        inputs = provider.check(RELEASE, None, given, name="it")
        assert inputs == given | {"timeout": 300, "version": "1.2.3"}
        assert provider.create(RELEASE, inputs, context("it", preview=True))[1]["status"] is UNKNOWN
        id_, outputs = provider.create(RELEASE, inputs, context("it"))
        assert id_ == f"{namespace}/it"
        assert outputs["status"] == {
            "name": "it",
            "namespace": namespace,
            "revision": 1,
            "status": "deployed",
            "chart": "sample",
            "version": "1.2.3",
            "appVersion": "4",
        }
        with pytest.raises(ProviderError, match=f"Helm release {namespace}/it already exists"):
            provider.create(RELEASE, inputs, context("another"))
        wanted = inputs | {"values": {"value": "second"}}
        assert provider.diff(RELEASE, id_, inputs, outputs, wanted).replace == ()
        assert provider.diff(RELEASE, id_, inputs, outputs, inputs | {"name": "x"}).replace == ("name",)
        assert provider.update(RELEASE, id_, inputs, outputs, wanted, context("it"))["status"]["revision"] == 2
        assert "second" in kubectl("get", "configmap", "-n", namespace, "settings", "-o", "jsonpath={.data.value}")
        provider.delete(RELEASE, id_, inputs, outputs, context("it"))
        provider.delete(RELEASE, id_, inputs, outputs, context("it"))
        assert kubectl("get", "configmap", "-n", namespace, "settings", "--ignore-not-found") == ""

    def test_release_of_a_killed_run_is_taken_up_again(
        self,
        provider: KubernetesProvider,
        chart: Path,
        namespace: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (chart / "templates/slow.yaml").write_text(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: slow}\nspec: {selector: {matchLabels: {a: b}}, "
            "replicas: {{ .Values.replicas }}, template: {metadata: {labels: {a: b}}, "
            "spec: {containers: [{name: c, image: none}]}}}\n"
        )
        given = {"chart": str(chart), "name": "it", "namespace": namespace, "values": {"value": "x", "replicas": 1}}
        inputs = provider.check(RELEASE, None, given, name="it")
        flags = ["--kubeconfig", KUBECONFIG, "--wait", "--set", "value=x,replicas=1"]
        helm = subprocess.Popen(["helm", "install", "it", chart, "-n", namespace, *flags], stdout=subprocess.DEVNULL)
        time.sleep(2)
        helm.kill()
        helm.wait()
        monkeypatch.setattr("lab.engine.providers.helm._ABANDONED", 1.0)
        inputs["values"] = {"value": "x", "replicas": 0}
        _, outputs = provider.create(RELEASE, inputs, context("it", adopt=True))
        assert outputs["status"]["status"] == "deployed"

    def test_release_that_does_not_get_ready_is_kept(
        self, provider: KubernetesProvider, chart: Path, namespace: str
    ) -> None:
        (chart / "templates/bad.yaml").write_text("apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {}\n")
        given = {"chart": str(chart), "name": "it", "namespace": namespace, "timeout": 10}
        inputs = provider.check(RELEASE, None, given, name="it")
        with pytest.raises(ProviderError, match=r"(?s)helm upgrade failed: .*spec\.ports: Required") as failure:
            provider.create(RELEASE, inputs, context("it"))
        assert failure.value.partial is not None and failure.value.partial[0] == f"{namespace}/it"
