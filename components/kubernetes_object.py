"""Kubernetes objects as resources, from their manifests.

The SDK's typed classes do the same, but importing those of `core/v1` takes as long as a run that changes nothing
otherwise does: 0.6 s.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.resource import DependencyResource
from pulumi.runtime.rpc import ResourceModule, register_resource_module
from semver import VersionInfo as Version

SECRET_DATA = ["data", "stringData"]
"""What the SDK's own class of Secrets keeps secret."""


def kubernetes_object(
    name: str, manifest: Mapping[str, Any], opts: pulumi.ResourceOptions, *, patch: bool = False
) -> pulumi.CustomResource:
    """An object in the cluster.

    Args:
        name: The resource's name.
        manifest: With `apiVersion`, `kind` and `metadata`; no `status`.
        opts: Options.
        patch: Whether somebody else has made the object, and this is only what is said of it here.
    """
    version, kind = manifest["apiVersion"], manifest["kind"]
    group = version if "/" in version else f"core/{version}"
    props = dict(manifest)
    if kind == "Secret":
        for key in {*SECRET_DATA} & set(props):
            props[key] = pulumi.Output.secret(props[key])
        opts = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=SECRET_DATA))
    return pulumi.CustomResource(f"kubernetes:{group}:{kind}{'Patch' if patch else ''}", name, props, opts)


# Of the kinds in Istio's charts.
_CHART_MODULES = (
    "admissionregistration.k8s.io/v1",
    "apps/v1",
    "autoscaling/v2",
    "core/v1",
    "policy/v1",
    "rbac.authorization.k8s.io/v1",
)


class _Part(ResourceModule):
    """What a chart's output has for each of its parts: their names only."""

    def version(self) -> Version:
        return Version(4, 10**6, 10**6)  # the newest is asked

    def construct(self, name: str, typ: str, urn: str) -> pulumi.Resource:
        return DependencyResource(urn)


@functools.cache
def name_chart_parts_only() -> None:
    """Have the SDK name the parts of charts, of which nothing is read here.

    By itself it would read each of them from the engine, with the typed classes, and end the program with a traceback
    where one of them was not made.
    """
    for module in _CHART_MODULES:
        register_resource_module("kubernetes", module, _Part())
