"""The Kubernetes provider's pure parts: names, comparisons, readiness, annotations, a chart's children.

What talks to a cluster is tested against a real one, in tests/lab.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from lab.engine.providers import chart_children, kube_await, kube_objects, kube_ready
from lab.engine.providers.base import CheckError, Context, ProviderError
from lab.engine.providers.kube_client import Kind, KubeClient, NoKind
from lab.engine.providers.kubernetes import KubernetesProvider
from lab.engine.values import UNKNOWN, Secret

URN = "urn:pulumi:dev::p::kubernetes:core/v1:ConfigMap::settings"


class Cluster(KubeClient):
    """Knows a few kinds, without any server."""

    NAMESPACED = frozenset({("v1", "ConfigMap"), ("v1", "Service"), ("v1", "Secret"), ("apps/v1", "Deployment")})
    GLOBAL = frozenset({("v1", "Namespace"), ("apiextensions.k8s.io/v1", "CustomResourceDefinition")})

    def __init__(self) -> None:
        self.namespace = "default"

    def kind(self, api_version: str, kind: str) -> Kind:
        if (api_version, kind) in self.NAMESPACED | self.GLOBAL:
            return Kind("/apis", kind.lower(), (api_version, kind) in self.NAMESPACED)
        raise NoKind(kind)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> KubernetesProvider:
    monkeypatch.setattr("lab.engine.providers.kubernetes.KubeClient", lambda *_: Cluster())
    return KubernetesProvider({})


def manifest(kind: str, name: str, *, version: str = "v1", **fields: Any) -> dict[str, Any]:
    metadata = {"name": name} | fields.pop("metadata", {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


class TestProvider:
    def test_options_that_are_not_supported(self) -> None:
        with pytest.raises(CheckError) as failure:
            KubernetesProvider({"renderYamlToDirectory": "x", "enableServerSideApply": "false", "kubeconfig": None})
        assert [path for path, _ in failure.value.problems] == ["renderYamlToDirectory", "enableServerSideApply"]

    def test_kubeconfig_as_text(self) -> None:
        with pytest.raises(CheckError, match="kubeconfig: must be a path"):
            KubernetesProvider({"kubeconfig": "apiVersion: v1\nkind: Config\n"})

    @pytest.mark.parametrize(
        ("type_", "supported"),
        [
            ("kubernetes:core/v1:Namespace", True),
            ("kubernetes:networking.istio.io/v1:WorkloadGroup", True),
            ("kubernetes:helm.sh/v4:Chart", True),
            ("kubernetes:helm.sh/v3:Release", True),
            ("kubernetes:helm.sh/v3:Chart", False),
            ("kubernetes:yaml/v2:ConfigGroup", False),
            ("kubernetes:core/v1:NamespacePatch", True),
            ("kubernetes:core/v1:PodList", False),
            ("kubernetes:index:Thing", False),
        ],
    )
    def test_supports(self, type_: str, supported: bool) -> None:
        assert KubernetesProvider({}).supports(type_) is supported

    def test_a_patch_is_of_the_kind_that_it_patches(self, provider: KubernetesProvider) -> None:
        patch = {"metadata": {"name": "n", "labels": {"a": "b"}}}
        checked = provider.check("kubernetes:core/v1:NamespacePatch", None, patch, name="patch")
        assert (checked["apiVersion"], checked["kind"]) == ("v1", "Namespace")
        assert kube_objects.released(checked) == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}

    def test_check_fills_in_kind_and_namespace(self, provider: KubernetesProvider) -> None:
        new = {"data": {"a": "b"}, "metadata": {"name": "n"}, "immutable": None}
        checked = provider.check("kubernetes:core/v1:ConfigMap", None, new, name="settings")
        metadata = {"name": "n", "namespace": "default"}
        assert checked == {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}, "metadata": metadata}

    def test_check_keeps_a_given_name_and_gives_no_namespace_to_what_has_none(
        self, provider: KubernetesProvider
    ) -> None:
        checked = provider.check("kubernetes:core/v1:Namespace", None, {"metadata": {"name": "n"}}, name="x")
        assert checked["metadata"] == {"name": "n"}

    def test_check_takes_an_unknown_kind_for_namespaced(self, provider: KubernetesProvider) -> None:
        checked = provider.check("kubernetes:example.com/v1:Thing", None, {"metadata": {"name": "n"}}, name="x")
        assert (checked["apiVersion"], checked["metadata"]["namespace"]) == ("example.com/v1", "default")

    def test_check_leaves_what_is_not_known_yet(self, provider: KubernetesProvider) -> None:
        type_ = "kubernetes:core/v1:ConfigMap"
        assert provider.check(type_, None, {"metadata": {"name": UNKNOWN}}, name="x")["metadata"]["name"] is UNKNOWN
        assert provider.check(type_, None, {"metadata": UNKNOWN}, name="x")["metadata"] is UNKNOWN

    @pytest.mark.parametrize("new", [{}, {"metadata": {"generateName": "a-"}}, {"metadata": "x"}])
    def test_check_makes_up_no_names(self, provider: KubernetesProvider, new: dict[str, Any]) -> None:
        with pytest.raises(CheckError, match=r"metadata\.name: is required"):
            provider.check("kubernetes:core/v1:ConfigMap", None, new, name="x")

    @pytest.mark.parametrize(
        ("type_", "old", "new", "replace"),
        [
            ("apps/v1:Deployment", {"spec": {"replicas": 1}}, {"spec": {"replicas": 2}}, ()),
            (
                "apps/v1:Deployment",
                {"spec": {"selector": {"matchLabels": {"a": "b"}}}},
                {"spec": {"selector": {"matchLabels": {"a": "c"}}}},
                ("spec.selector.matchLabels.a",),
            ),
            ("core/v1:ConfigMap", {"data": {"a.b": "1"}}, {"data": {"a.b": "2"}}, ('data["a.b"]',)),
            ("core/v1:Secret", {"stringData": {"a": "1"}}, {"stringData": {"a": "2"}}, ("data.a",)),
            ("core/v1:Service", {"spec": {"clusterIP": "None"}}, {"spec": {}}, ("spec.clusterIP",)),
        ],
    )
    def test_diff_replaces_what_cannot_change(
        self, type_: str, old: dict[str, Any], new: dict[str, Any], replace: tuple[str, ...]
    ) -> None:
        provider, type_ = KubernetesProvider({}), f"kubernetes:{type_}"
        api_version, kind = kube_objects.kind_of(type_)
        olds, news = (manifest(kind, "n", version=api_version, **fields) for fields in (old, new))
        diff = provider.diff(type_, "n", olds, {}, news)
        assert (diff.changed, diff.replace, diff.delete_before_replace) == (True, replace, bool(replace))

    def test_diff_of_another_name_replaces_and_both_may_live(self) -> None:
        diff = KubernetesProvider({}).diff(
            "kubernetes:core/v1:Service", "a", manifest("Service", "a"), {}, manifest("Service", "b")
        )
        assert (diff.replace, diff.delete_before_replace) == (("metadata.name",), False)

    def test_diff_does_not_see_string_data_and_data_that_are_equal(self) -> None:
        old = manifest("Secret", "n", stringData={"a": "text"})
        new = manifest("Secret", "n", data={"a": base64.b64encode(b"text").decode()})
        assert not KubernetesProvider({}).diff("kubernetes:core/v1:Secret", "n", old, {}, new).changed

    def test_diff_of_unknown_values(self) -> None:
        old, new = manifest("Service", "n", spec={"a": 1}), manifest("Service", "n", spec={"a": UNKNOWN})
        diff = KubernetesProvider({}).diff("kubernetes:core/v1:Service", "n", old, {}, new)
        assert diff.detailed == {"spec.a": "update"}

    def test_moved_when_the_cluster_is_another(self) -> None:
        provider = KubernetesProvider({"kubeconfig": "/a"})
        assert provider.moved({"kubeconfig": "/b"}) == ("kubeconfig",)
        assert provider.moved({"kubeconfig": "/a", "context": "c"}) == ("context",)
        assert provider.moved({"kubeconfig": "/a"}) == ()
        assert KubernetesProvider({"kubeconfig": UNKNOWN}).moved({}) == ("kubeconfig",)
        named = KubernetesProvider({"kubeconfig": "/b", "clusterIdentifier": "x"})
        assert named.moved({"kubeconfig": "/a", "clusterIdentifier": "x"}) == ()
        assert named.moved({"clusterIdentifier": "y"}) == ("clusterIdentifier",)

    def test_kubeconfig_that_cannot_be_used(self) -> None:
        with pytest.raises(ProviderError, match="kubeconfig /no/such/file cannot be used"):
            KubernetesProvider({"kubeconfig": "/no/such/file"}).check(
                "kubernetes:core/v1:Pod", None, {"metadata": {"name": "n"}}, name="n"
            )


class TestObjects:
    def test_types(self) -> None:
        for type_ in ("kubernetes:core/v1:Pod", "kubernetes:apps/v1:Deployment"):
            version, kind = kube_objects.kind_of(type_)
            assert kube_objects.type_of({"apiVersion": version, "kind": kind}) == type_

    def test_outputs_mark_a_secrets_content_and_leave_bookkeeping_out(self) -> None:
        live = manifest("Secret", "n", data={"a": "MQ=="}, metadata={"managedFields": [1], "uid": "u"})
        outputs = kube_objects.outputs_of(live, "manager")
        assert outputs["data"] == Secret({"a": "MQ=="})
        assert outputs["metadata"] == {"name": "n", "uid": "u"}
        assert live["metadata"]["managedFields"] == [1]

    def test_preview_leaves_out_what_a_dry_run_makes_up(self) -> None:
        dry = manifest("Service", "n", spec={"clusterIP": "10.0.0.1", "ports": []}, status={}, metadata={"uid": "u"})
        assert kube_objects.preview_of(dry, {"spec": {"ports": []}}, "m") == {
            **manifest("Service", "n", spec={"clusterIP": UNKNOWN, "ports": []}),
            "__fieldManager": "m",
        }
        headless = {"spec": {"clusterIP": "None"}}
        dry["spec"]["clusterIP"] = "None"
        assert kube_objects.preview_of(dry, headless, "m")["spec"]["clusterIP"] == "None"

    def test_field_manager_is_the_resources_own_and_is_kept(self) -> None:
        first = kube_objects.field_manager({}, URN)
        assert first == kube_objects.field_manager({}, URN) != kube_objects.field_manager({}, URN + "2")
        assert kube_objects.field_manager({"__fieldManager": "old"}, URN) == "old"
        assert kube_objects.is_ours({"metadata": {"managedFields": [{"manager": first}]}}, first)
        assert not kube_objects.is_ours({"metadata": {"managedFields": [{"manager": "kubectl"}]}}, first)

    def test_definitions_fields_are_spelt_the_sdks_way_only_outside_the_cluster(self) -> None:
        sdk = manifest("CustomResourceDefinition", "n", spec={"x_kubernetes_list_type": "map"})
        sent = kube_objects.wire(sdk | {"__fieldManager": "m", "status": None})
        assert sent == manifest("CustomResourceDefinition", "n", spec={"x-kubernetes-list-type": "map"})
        assert kube_objects.outputs_of(sent, "m")["spec"] == sdk["spec"]

    @pytest.mark.parametrize(
        ("custom", "annotation", "seconds"), [(None, None, 600), (None, "20", 20), (5.0, "20", 5), (None, "x", 600)]
    )
    def test_timeout(self, custom: float | None, annotation: str | None, seconds: float) -> None:
        annotations = {"pulumi.com/timeoutSeconds": annotation} if annotation else {}
        obj = manifest("Pod", "n", metadata={"annotations": annotations})
        assert kube_await.timeout_of(obj, Context(urn=URN, timeout=custom)) == seconds


class TestWaitFor:
    OBJECT: Mapping[str, Any] = {
        "metadata": {"generation": 2, "labels": {"a.b/c": "x"}},
        "status": {
            "phase": "Active",
            "ready": True,
            "replicas": 3,
            "observedGeneration": 2,
            "ingress": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}],
            "conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "Old", "status": "True", "observedGeneration": 1},
                {"type": "Broken", "status": "False", "reason": "Why", "message": "because"},
            ],
        },
    }

    @pytest.mark.parametrize(
        ("annotation", "missing"),
        [
            ("jsonpath={.status.phase}", ""),
            ("jsonpath={.status.phase}=Active", ""),
            ("jsonpath={.status.phase}=Gone", "{.status.phase} is Active, not Gone"),
            ("jsonpath={ $.status.replicas }=3", ""),
            ("jsonpath={.status.ready}=true", ""),
            ("jsonpath={.status.none}", "{.status.none} selects nothing"),
            ("jsonpath={.status.ingress[0].ip}=10.0.0.1", ""),
            ("jsonpath={.status.ingress[7].ip}", "{.status.ingress[7].ip} selects nothing"),
            ("jsonpath={.metadata.labels['a.b/c']}=x", ""),
            ("jsonpath={.status}", ""),
            ("condition=Ready", ""),
            ("condition=ready=true", ""),
            ("condition=Ready=False", "condition Ready is True, not False"),
            ("condition=Old", "condition Old is of an older generation (1)"),
            ("condition=Broken", "condition Broken is False, not True (Why: because)"),
            ("condition=None", "condition None is not there"),
        ],
    )
    def test_one(self, annotation: str, missing: str) -> None:
        assert kube_ready.wait_for(annotation)(self.OBJECT) == missing

    def test_several(self) -> None:
        check = kube_ready.wait_for('["condition=Ready", "jsonpath={.status.phase}=Gone", "condition=None"]')
        assert check(self.OBJECT) == "{.status.phase} is Active, not Gone; condition None is not there"

    @pytest.mark.parametrize(
        ("annotation", "message"),
        [
            ("ready", 'expected a "jsonpath=" or "condition=" prefix'),
            ("[]", "at least one condition"),
            ("[1]", "prefix, got 1"),
            ("jsonpath=.status", "should be jsonpath={.path}"),
            ("jsonpath={.status}=", "should be jsonpath={.path} or jsonpath={.path}=value"),
            ("jsonpath={}", "reads only fields and indices"),
            ("jsonpath={.status[}", "reads only fields and indices"),
            ('jsonpath={.conditions[?(@.type=="Ready")].status}=True', "reads only fields and indices"),
            (r"jsonpath={.metadata.labels.a\.b/c}=x", "reads only fields and indices"),
        ],
    )
    def test_malformed(self, annotation: str, message: str) -> None:
        with pytest.raises(ValueError, match=None) as failure:
            kube_ready.wait_for(annotation)
        assert message in str(failure.value)


class TestReady:
    @staticmethod
    def deployment(generation: int = 1, wanted: int | None = 2, **status: Any) -> dict[str, Any]:
        spec = {} if wanted is None else {"replicas": wanted}
        return manifest("Deployment", "d", metadata={"generation": generation}, spec=spec, status=status)

    def test_deployment(self) -> None:
        done = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
        assert kube_ready.deployment(self.deployment(**done)) == ""
        assert kube_ready.deployment(self.deployment(generation=2, **done)) == "the controller has not seen it yet"
        assert kube_ready.deployment(self.deployment(**done | {"updatedReplicas": 1})) == "1 of 2 replicas are updated"
        assert kube_ready.deployment(self.deployment(**done | {"replicas": 3})) == "1 old replicas are still there"
        stuck = {
            "availableReplicas": 1,
            "conditions": [{"type": "Progressing", "status": "False", "reason": "Late", "message": "too slow"}],
        }
        assert kube_ready.deployment(self.deployment(**done | stuck)) == (
            "1 of 2 updated replicas are available: [Late] too slow"
        )
        assert kube_ready.deployment(self.deployment(wanted=0, observedGeneration=1)) == ""
        assert kube_ready.deployment(self.deployment(wanted=None)) != ""

    def test_definition(self) -> None:
        established = {"type": "Established", "status": "True"}
        obj = manifest("CustomResourceDefinition", "c", status={"conditions": [established]})
        assert kube_ready.custom_resource_definition(obj) == ""
        assert kube_ready.custom_resource_definition(obj | {"status": {"conditions": None}}) != ""

    def test_service(self) -> None:
        service = manifest("Service", "s", spec={"type": "LoadBalancer", "selector": {"a": "b"}}, status={})
        assert "no address" in kube_ready.load_balancer(service)
        service["status"] = {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}
        assert kube_ready.load_balancer(service) == ""
        assert kube_ready.has_endpoints(service)
        for spec in ({"selector": {}}, {"selector": {"a": "b"}, "clusterIP": "None"}, {"type": "ExternalName"}):
            assert not kube_ready.has_endpoints(manifest("Service", "s", spec=spec))

    def test_endpoints(self) -> None:
        slices = [{"endpoints": [{"conditions": {"ready": True}}, {"conditions": {"ready": False}}, {}]}, {}]
        assert kube_ready.endpoints(slices) == (2, 1)


def namespaced(_: str, kind: str) -> bool:
    return kind not in ("Namespace", "CustomResourceDefinition")


class TestChartChildren:
    def test_names_types_namespaces_and_order(self) -> None:
        definition = manifest(
            "CustomResourceDefinition",
            "things.example.com",
            version="apiextensions.k8s.io/v1",
            spec={"group": "example.com", "names": {"kind": "Thing"}},
        )
        objects = [
            manifest("Thing", "t", version="example.com/v1"),
            manifest("ConfigMap", "first"),
            manifest("Namespace", "there"),
            manifest("Deployment", "d", version="apps/v1", metadata={"namespace": "there"}),
            manifest("List", "l", items=[manifest("Secret", "s", data={"a": "MQ=="})]) | {"kind": "SecretList"},
            definition,
        ]
        children = chart_children.children(objects, "chart", "here", namespaced, skip_await=False)
        assert [(child.type, child.name, child.depends_on) for child in children] == [
            ("kubernetes:example.com/v1:Thing", "chart:here/t", ("chart:things.example.com",)),
            ("kubernetes:core/v1:ConfigMap", "chart:here/first", ()),
            ("kubernetes:core/v1:Namespace", "chart:there", ()),
            ("kubernetes:apps/v1:Deployment", "chart:there/d", ("chart:there",)),
            ("kubernetes:core/v1:Secret", "chart:here/s", ()),
            ("kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition", "chart:things.example.com", ()),
        ]
        assert children[4].inputs["data"] == Secret({"a": "MQ=="})

    def test_skip_await_is_written_on_each(self) -> None:
        (child,) = chart_children.children([manifest("ConfigMap", "c")], "", "ns", namespaced, skip_await=True)
        assert child.name == "ns/c"
        assert child.inputs["metadata"]["annotations"] == {"pulumi.com/skipAwait": "true"}

    def test_nameless_objects_are_errors(self) -> None:
        with pytest.raises(ProviderError, match=r"renders a Pod without metadata\.name"):
            chart_children.children([{"apiVersion": "v1", "kind": "Pod"}], "c", "ns", namespaced, skip_await=False)
