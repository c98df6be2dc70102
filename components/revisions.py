"""Revision tags: names for namespaces that stay when they are made to point at another istiod.

The chart's own `revisionTags` makes them too, as parts of one istiod's chart: a tag that moves would be made in one
chart before it is deleted in the other, under the same name. Here it is one object that changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.kubernetes_object import kubernetes_object
from components.values import ISTIO_NAMESPACE, suffixed

REVISION, INJECTION, INJECT = "istio.io/rev", "istio-injection", "sidecar.istio.io/inject"
_SYSTEM = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"]

Expression = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Target:
    """The istiod that a tag points at."""

    revision: str
    """Its revision; empty for the default one."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Values of its chart, of which `sidecarInjectorWebhook` matters here."""
    after: Sequence[pulumi.Resource] = ()
    """What makes it answer: a tag without an istiod refuses pods."""


@dataclass(frozen=True, kw_only=True)
class RevisionTagsArgs:
    """Which tags there are."""

    tags: Mapping[str, Target]
    """By name."""


def _is(key: str, *values: str) -> Expression:
    return {"key": key, "operator": "In", "values": list(values)}


def _is_not(key: str, *values: str) -> Expression:
    return {"key": key, "operator": "NotIn", "values": list(values)}


def _absent(key: str) -> Expression:
    return {"key": key, "operator": "DoesNotExist"}


def selections(tag: str, *, by_default: bool) -> dict[str, tuple[list[Expression], list[Expression]]]:
    """Which pods a tag's istiod injects: by the webhook's prefix, what must hold for the namespace and for the pod.

    As the chart's `revision-tags-mwc.yaml`. The tag `default` also stands in for the default istiod.
    """
    allowed = _is_not(INJECT, "false")
    found: dict[str, tuple[list[Expression], list[Expression]]] = {
        "rev.namespace.": ([_is(REVISION, tag), _absent(INJECTION)], [allowed]),
        "rev.object.": ([_absent(REVISION), _absent(INJECTION)], [allowed, _is(REVISION, tag)]),
    }
    if tag == "default":
        unsaid = [_absent(INJECTION), _absent(REVISION)]
        found["namespace."] = ([_is(INJECTION, "enabled")], [allowed])
        found["object."] = (unsaid, [_is(INJECT, "true"), _absent(REVISION)])
        if by_default:
            others = _is_not("kubernetes.io/metadata.name", *_SYSTEM)
            found["auto."] = ([*unsaid, others], [_absent(INJECT), _absent(REVISION)])
    return found


def tag_webhooks(tag: str, target: Target) -> list[dict[str, Any]]:
    """The webhooks of a tag; istiod itself writes into them whose certificates the API server trusts."""
    injector = target.values.get("sidecarInjectorWebhook") or {}
    by_default = bool(injector.get("enableNamespacesByDefault"))
    return [
        {
            "name": f"{prefix}sidecar-injector.istio.io",
            "clientConfig": {
                "service": {
                    "name": suffixed("istiod", target.revision),
                    "namespace": ISTIO_NAMESPACE,
                    "path": "/inject",
                    "port": 443,
                }
            },
            "sideEffects": "None",
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
            "failurePolicy": "Fail",
            "reinvocationPolicy": injector.get("reinvocationPolicy", "Never"),
            "admissionReviewVersions": ["v1"],
            "namespaceSelector": {"matchExpressions": namespaces},
            "objectSelector": {"matchExpressions": pods},
        }
        for prefix, (namespaces, pods) in selections(tag, by_default=by_default).items()
    ]


def tag_metadata(tag: str, target: Target) -> dict[str, Any]:
    """Metadata of a tag's object, as istioctl's: by the label, the revision's istiod takes it for its own."""
    labels = {"app": "sidecar-injector", "istio.io/tag": tag, REVISION: target.revision or "default"}
    return {"name": f"istio-revision-tag-{tag}", "labels": labels}


class RevisionTags(pulumi.ComponentResource):
    """The mesh's revision tags.

    Creates a MutatingWebhookConfiguration for each. Another name makes another one; nothing else replaces it.

    Outputs: none.
    """

    def __init__(self, name: str, args: RevisionTagsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:RevisionTags", name, None, opts)
        for tag, target in args.tags.items():
            kubernetes_object(
                f"{name}-{tag}",
                {
                    "apiVersion": "admissionregistration.k8s.io/v1",
                    "kind": "MutatingWebhookConfiguration",
                    "metadata": tag_metadata(tag, target),
                    "webhooks": tag_webhooks(tag, target),
                },
                pulumi.ResourceOptions(parent=self, depends_on=list(target.after)),
            )
        self.register_outputs({})
