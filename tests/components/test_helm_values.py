"""Helm values, and the mesh configuration that the chart makes of them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.values import (
    base_values,
    chart_reference,
    deep_merge,
    istiod_values,
    mesh_config,
    plain_revision,
    suffixed,
)

OWN: dict[str, Any] = {
    "hub": "lab.local/istio",
    "tag": "dev",
    "mesh_id": "mesh1",
    "trust_domain": "cluster.local",
    "cluster": "cluster1",
    "network": "net1",
    "revision": "",
}

trees = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 3), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner | st.integers(0, 3), max_size=3),
    max_leaves=8,
).filter(lambda tree: isinstance(tree, dict))


@given(trees, trees)
def test_deep_merge_keeps_all_of_over_and_what_under_has_besides(under: dict[str, Any], over: dict[str, Any]) -> None:
    merged = deep_merge(under, over)

    def holds(tree: dict[str, Any], there: Any) -> None:
        for key, value in tree.items():
            if isinstance(value, dict):
                assert isinstance(there[key], dict)
                holds(value, there[key])
            else:
                assert there[key] == value

    holds(over, merged)
    assert set(merged) == {*under, *over}
    assert deep_merge(merged, over) == merged


def test_deep_merge_changes_neither_side() -> None:
    under, over = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert deep_merge(under, over) == {"a": {"b": 1, "c": 2}}
    assert (under, over) == ({"a": {"b": 1}}, {"a": {"c": 2}})


@pytest.mark.parametrize(("revision", "name"), [("", "istiod"), ("default", "istiod"), ("canary", "istiod-canary")])
def test_suffixed(revision: str, name: str) -> None:
    assert suffixed("istiod", revision) == name


def test_the_revision_default_is_the_unnamed_one() -> None:
    assert (plain_revision("default"), plain_revision("canary")) == ("", "canary")


@pytest.mark.parametrize(
    ("charts", "expected"),
    [
        (".lab/charts", {"chart": ".lab/charts/istiod"}),
        ("../charts/", {"chart": "../charts/istiod"}),
        ("oci://ghcr.io/istio/charts", {"chart": "oci://ghcr.io/istio/charts/istiod", "version": "1.31.1"}),
        (
            "https://blob.istio.io/charts",
            {"chart": "istiod", "version": "1.31.1", "repository_opts": {"repo": "https://blob.istio.io/charts"}},
        ),
    ],
)
def test_chart_reference(charts: str, expected: dict[str, Any]) -> None:
    assert chart_reference(charts, "istiod", "1.31.1") == expected


def test_base_values_name_the_revision_whose_webhook_validates() -> None:
    assert base_values("canary") == {"base": {"validationFailurePolicy": "Fail"}, "defaultRevision": "canary"}
    assert base_values("")["defaultRevision"] == base_values("default")["defaultRevision"] == "default"


def test_istiod_values_lie_over_the_users() -> None:
    extra = {"pilot": {"x": 1}, "global": {"hub": "elsewhere", "proxy": {"logLevel": "debug"}}}
    values = istiod_values(extra=extra, **{**OWN, "revision": "canary"})
    assert values == {
        "pilot": {"x": 1},
        "global": {
            "hub": "lab.local/istio",
            "tag": "dev",
            "meshID": "mesh1",
            "network": "net1",
            "multiCluster": {"clusterName": "cluster1"},
            "proxy": {"logLevel": "debug"},
        },
        "meshConfig": {"trustDomain": "cluster.local"},
        "base": {"validationFailurePolicy": "Fail"},
        "revision": "canary",
    }


def test_mesh_config_of_the_defaults() -> None:
    assert mesh_config(istiod_values(extra={}, **OWN)) == {
        "trustDomain": "cluster.local",
        "rootNamespace": "istio-system",
        "enablePrometheusMerge": True,
        "defaultProviders": {"metrics": ["prometheus"]},
        "defaultConfig": {"meshId": "mesh1", "discoveryAddress": "istiod.istio-system.svc:15012"},
    }


@pytest.mark.parametrize(
    ("extra", "path", "expected"),
    [
        ({"telemetry": {"enabled": False}}, ["defaultProviders"], None),
        ({"telemetry": {"v2": {"prometheus": {"enabled": False}}}}, ["defaultProviders"], None),
        ({"meshConfig": {"defaultProviders": {"metrics": ["mine"]}}}, ["defaultProviders"], {"metrics": ["mine"]}),
        ({"meshConfig": {"rootNamespace": "root"}}, ["rootNamespace"], "root"),
        ({"meshConfig": {"trustDomain": "x.y"}}, ["trustDomain"], "cluster.local"),
        ({"meshConfig": {"defaultConfig": {"drainDuration": "5s"}}}, ["defaultConfig", "drainDuration"], "5s"),
        ({"meshConfig": {"defaultConfig": {"drainDuration": "5s"}}}, ["defaultConfig", "meshId"], "mesh1"),
        ({"global": {"variant": "distroless"}}, ["defaultConfig", "image"], {"imageType": "distroless"}),
        (
            {"profile": "preview"},
            ["defaultConfig", "proxyMetadata"],
            {"ISTIO_META_DNS_CAPTURE": "true"},
        ),
    ],
)
def test_mesh_config_follows_the_values(extra: dict[str, Any], path: list[str], expected: Any) -> None:
    found: Any = mesh_config(istiod_values(extra=extra, **OWN))
    for key in path:
        found = found.get(key)
    assert found == expected


def test_mesh_config_of_a_revision() -> None:
    values = istiod_values(extra={}, **{**OWN, "revision": "canary"})
    assert mesh_config(values)["defaultConfig"]["discoveryAddress"] == "istiod-canary.istio-system.svc:15012"


def test_a_tracer_is_refused_rather_than_guessed() -> None:
    with pytest.raises(ValueError, match=r"tracer is not supported; set meshConfig\.defaultConfig\.tracing"):
        mesh_config({"global": {"proxy": {"tracer": "zipkin"}}})
