"""Kubernetes objects as resources: their types, their secrets, and what stands for the parts of charts."""

from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
import pytest
from pulumi.resource import DependencyResource
from pulumi.runtime.rpc import get_resource_module
from recording import Registered, run, secrets

from components.kubernetes_object import kubernetes_object, name_chart_parts_only


def made(manifest: dict[str, Any], *, patch: bool = False) -> Registered:
    def program() -> dict[str, Any]:
        kubernetes_object("thing", manifest, pulumi.ResourceOptions(), patch=patch)
        return {}

    return run(program)["thing"]


@pytest.mark.parametrize(
    ("version", "kind", "patch", "token"),
    [
        ("v1", "Namespace", False, "kubernetes:core/v1:Namespace"),
        ("v1", "Namespace", True, "kubernetes:core/v1:NamespacePatch"),
        ("networking.istio.io/v1", "Gateway", False, "kubernetes:networking.istio.io/v1:Gateway"),
    ],
)
def test_an_object_has_the_type_that_the_sdks_classes_give_it(version: str, kind: str, patch: bool, token: str) -> None:
    assert made({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}}, patch=patch).type == token


def test_a_secrets_data_is_secret() -> None:
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "stringData": {"key": "a private key"}}
    assert "a private key" in str(secrets(made(manifest).inputs))


def test_the_parts_of_charts_are_named_only() -> None:
    name_chart_parts_only()
    version = kubernetes._utilities.get_version()
    for part in ("core/v1", "apps/v1"):
        module = get_resource_module("kubernetes", part, version)
        assert module is not None
        assert isinstance(module.construct("x", f"kubernetes:{part}:X", "urn:pulumi:x"), DependencyResource)
