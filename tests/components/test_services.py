"""The ServiceEntry of a host that is no Kubernetes Service."""

from typing import Any

import pulumi
from recording import run

from components.services import MeshService, MeshServiceArgs, ServicePort, service_entry


def arguments(**changes: Any) -> MeshServiceArgs:
    given: dict[str, Any] = {
        "namespace": "vm-apps",
        "hosts": ["reviews.mesh.internal"],
        "ports": {"tcp-db": ServicePort(number=90, protocol="TCP"), "http": ServicePort(number=80, protocol="HTTP")},
        "selector": {"app": "reviews"},
    }
    return MeshServiceArgs(**{**given, **changes})


def test_what_a_selector_finds_answers_and_nothing_empty_is_sent() -> None:
    assert service_entry("reviews", arguments()) == {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "reviews", "namespace": "vm-apps"},
        "spec": {
            "hosts": ["reviews.mesh.internal"],
            "location": "MESH_INTERNAL",
            "ports": [
                {"name": "http", "number": 80, "protocol": "HTTP"},
                {"name": "tcp-db", "number": 90, "protocol": "TCP"},
            ],
            "resolution": "STATIC",
            "workloadSelector": {"labels": {"app": "reviews"}},
        },
    }


def test_fixed_endpoints_outside_of_the_mesh() -> None:
    args = arguments(
        ports={"web": ServicePort(number=80, target=8080)},
        selector=None,
        endpoints=[{"address": "10.0.0.9", "labels": {"version": "v1"}}],
        location="MESH_EXTERNAL",
        addresses=["10.100.0.7"],
        export_to=["."],
        subject_alt_names=["a.example.com"],
    )
    assert service_entry("legacy", args)["spec"] == {
        "hosts": ["reviews.mesh.internal"],
        "location": "MESH_EXTERNAL",
        # Without a protocol sidecars find out themselves.
        "ports": [{"name": "web", "number": 80, "targetPort": 8080}],
        "resolution": "STATIC",
        "endpoints": [{"address": "10.0.0.9", "labels": {"version": "v1"}}],
        "addresses": ["10.100.0.7"],
        "exportTo": ["."],
        "subjectAltNames": ["a.example.com"],
    }


def test_it_registers_one_object_after_what_it_needs() -> None:
    def program() -> dict[str, Any]:
        leaf = pulumi.CustomResource("test:index:Leaf", "leaf", {})
        MeshService("reviews", arguments(after=[leaf]))
        return {}

    done = run(program)
    assert done.names == {"leaf", "reviews", "reviews-service-entry"}
    entry = done["reviews-service-entry"]
    assert (entry.type, entry.parent_name) == ("kubernetes:networking.istio.io/v1:ServiceEntry", "reviews")
    assert entry.dependency_names == {"leaf"}
    assert done.monitor.outputs["reviews"] == {"hosts": ["reviews.mesh.internal"]}
