"""What istiod makes of a VM's word; that real entries are so is held on the lab."""

from typing import Any

import pytest

from hosts.registered import RegisteredEntry, registered_entry, without_cloud

MESH: dict[str, Any] = {"trustDomain": "cluster.local", "defaultConfig": {"discoveryAddress": "istiod:15012"}}
OWN = {"service.istio.io/canonical-name": "billing", "service.istio.io/canonical-revision": "v1"}


def group(**labels: str) -> dict[str, Any]:
    spec: dict[str, Any] = {"template": {"serviceAccount": "pay", "network": "net1", "ports": {"http": 8080}}}
    return {
        "metadata": {"name": "billing", "namespace": "vm-apps"},
        "spec": {**spec, "metadata": {"labels": {"version": "v1", **labels}}},
    }


def test_labels_network_and_account_are_those_of_the_files() -> None:
    assert registered_entry(group(app="billing"), without_cloud(MESH)) == RegisteredEntry(
        labels={"app": "billing", "version": "v1", **OWN}, network="net1", service_account="pay", locality=""
    )


@pytest.mark.parametrize(
    ("labels", "locality", "stays"),
    [
        ({"istio-locality": "eu.a"}, "eu/a", {}),
        ({"istio-locality": "eu.a.rack1.more"}, "eu/a/rack1", {}),
        ({"istio-locality": "eu..rack1"}, "eu", {}),
        ({"istio-locality": "eu"}, "eu", {}),
        (
            {"istio-locality": "us", "topology.istio.io/locality": "eu.a"},
            "eu/a",
            {"topology.istio.io/locality": "eu.a"},
        ),
    ],
)
def test_a_label_says_the_locality_with_and_without_a_cloud(
    labels: dict[str, str], locality: str, stays: dict[str, str]
) -> None:
    for config in (MESH, without_cloud(MESH)):
        found = registered_entry(group(**labels), config)
        assert (found.locality, found.labels) == (locality, {"version": "v1", **stays, **OWN})


def test_istiod_may_mark_vms_that_take_hbone() -> None:
    tunnel = {"networking.istio.io/tunnel": "http"}
    config = {"defaultConfig": {"proxyMetadata": {"ISTIO_META_ENABLE_HBONE": "true"}}}
    assert registered_entry(group(), config).optional_labels == tunnel
    assert registered_entry(group(**tunnel), config).optional_labels == {}
    assert registered_entry(group(), MESH).optional_labels == {}


@pytest.mark.parametrize(
    ("where", "locality"),
    [({}, ""), ({"CLOUD_PLATFORM": "NONE"}, ""), ({"CLOUD_PLATFORM": "aws"}, None), ({"OTHER": "x"}, "")],
)
def test_a_cloud_that_the_mesh_names_says_where_its_vms_are(where: dict[str, str], locality: str | None) -> None:
    config = without_cloud({**MESH, "defaultConfig": {**MESH["defaultConfig"], "proxyMetadata": where}})
    assert config["defaultConfig"]["discoveryAddress"] == "istiod:15012"
    assert registered_entry(group(), config).locality == locality
    assert registered_entry(group(), MESH).locality is None, "an agent without CLOUD_PLATFORM looks for a cloud"
