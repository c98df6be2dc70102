"""Revision tags: the webhooks of the chart, as objects that can be made to point elsewhere."""

from typing import Any

import pulumi
import pytest
from recording import Run, run

from components.revisions import RevisionTags, RevisionTagsArgs, Target, tag_metadata, tag_webhooks


def expressions(webhook: dict[str, Any], selector: str) -> list[str]:
    return [
        " ".join([found["key"], found["operator"], *found.get("values", [])])
        for found in webhook[selector]["matchExpressions"]
    ]


def test_a_tag_is_the_charts() -> None:
    """Compare `revision-tags-mwc.yaml` of the chart istiod."""
    by_namespace, by_pod = tag_webhooks("prod", Target(revision="canary"))
    assert by_namespace == {
        "name": "rev.namespace.sidecar-injector.istio.io",
        "clientConfig": {
            "service": {"name": "istiod-canary", "namespace": "istio-system", "path": "/inject", "port": 443}
        },
        "sideEffects": "None",
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "admissionReviewVersions": ["v1"],
        "namespaceSelector": {
            "matchExpressions": [
                {"key": "istio.io/rev", "operator": "In", "values": ["prod"]},
                {"key": "istio-injection", "operator": "DoesNotExist"},
            ]
        },
        "objectSelector": {
            "matchExpressions": [{"key": "sidecar.istio.io/inject", "operator": "NotIn", "values": ["false"]}]
        },
    }
    assert by_pod["name"] == "rev.object.sidecar-injector.istio.io"
    assert expressions(by_pod, "namespaceSelector") == ["istio.io/rev DoesNotExist", "istio-injection DoesNotExist"]
    assert expressions(by_pod, "objectSelector") == ["sidecar.istio.io/inject NotIn false", "istio.io/rev In prod"]


def test_istiod_knows_a_tag_for_its_own_by_the_label() -> None:
    assert tag_metadata("prod", Target(revision=""))["labels"]["istio.io/rev"] == "default"
    assert tag_metadata("prod", Target(revision="canary")) == {
        "name": "istio-revision-tag-prod",
        "labels": {"app": "sidecar-injector", "istio.io/tag": "prod", "istio.io/rev": "canary"},
    }


@pytest.mark.parametrize(
    ("values", "prefixes"),
    [
        ({}, ["rev.namespace.", "rev.object.", "namespace.", "object."]),
        ({"enableNamespacesByDefault": True}, ["rev.namespace.", "rev.object.", "namespace.", "object.", "auto."]),
    ],
)
def test_the_tag_default_stands_in_for_the_default_revision(values: dict[str, Any], prefixes: list[str]) -> None:
    webhooks = tag_webhooks("default", Target(revision="canary", values={"sidecarInjectorWebhook": values}))
    assert [webhook["name"].removesuffix("sidecar-injector.istio.io") for webhook in webhooks] == prefixes
    assert expressions(webhooks[2], "namespaceSelector") == ["istio-injection In enabled"]
    assert expressions(webhooks[3], "objectSelector") == [
        "sidecar.istio.io/inject In true",
        "istio.io/rev DoesNotExist",
    ]


def test_values_of_the_istiod_hold_for_its_tags() -> None:
    values = {"sidecarInjectorWebhook": {"reinvocationPolicy": "IfNeeded"}}
    assert tag_webhooks("prod", Target(revision="", values=values))[0]["reinvocationPolicy"] == "IfNeeded"


def tags_run(**tags: str) -> Run:
    def program() -> dict[str, Any]:
        istiods = {name: pulumi.CustomResource("test:index:Istiod", f"istiod-{name}", {}) for name in ("", "canary")}
        targets = {tag: Target(revision=to, after=[istiods[to]]) for tag, to in tags.items()}
        RevisionTags("revision-tags", RevisionTagsArgs(tags=targets))
        return {}

    return run(program)


def test_a_tag_that_moves_is_one_changed_object() -> None:
    before, after = tags_run(prod="", test="canary"), tags_run(prod="canary", test="canary")
    assert before["revision-tags-prod"].type.endswith(":MutatingWebhookConfiguration")
    assert before["revision-tags-prod"].parent_name == "revision-tags"
    assert before["revision-tags-prod"].dependency_names == {"istiod-"}
    assert after["revision-tags-prod"].dependency_names == {"istiod-canary"}
    assert {name for name in before.names if before[name].inputs != after[name].inputs} == {"revision-tags-prod"}
