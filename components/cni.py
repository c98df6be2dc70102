"""Istio's CNI plugin: it redirects the traffic of pods on each node, so that no pod needs the right to do it itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components.values import ISTIO_NAMESPACE, chart_reference, deep_merge

RELEASE = "istio-cni"
DAEMON_SET = "istio-cni-node"
FOR_INJECTION: Mapping[str, Any] = {"cni": {"enabled": True}}
"""Values of the chart `istiod`: pods are injected with a check of the redirection in place of what makes it."""


def cni_values(*, extra: Mapping[str, Any], hub: str, tag: str) -> dict[str, Any]:
    """Values of the chart `cni`: the user's, with the program's over them."""
    return deep_merge(extra, {"global": {"hub": hub, "tag": tag}})


def cni_chart(
    name: str, values: Mapping[str, Any], *, charts: str, version: str, opts: pulumi.ResourceOptions
) -> pulumi.Resource:
    """The chart `cni`, whose DaemonSet must run before a pod is injected for it."""
    chart: pulumi.Resource = kubernetes.helm.v4.Chart(
        name,
        name=RELEASE,
        namespace=ISTIO_NAMESPACE,
        values=values,
        opts=opts,
        **chart_reference(charts, "cni", version),
    )
    return chart
