"""The sidecar's files for WorkloadGroups whose files are known."""

from pathlib import Path
from typing import Any

import pytest

from hosts.sidecar_files import istiod_host, sidecar_files

GROUP: dict[str, Any] = {
    "metadata": {"name": "billing", "namespace": "vm-apps"},
    "spec": {
        "metadata": {"labels": {"app": "billing", "version": "v1"}},
        "template": {"ports": {"tcp-db": 5432, "http": 8080}, "serviceAccount": "billing", "network": "net1"},
        "probe": {"httpGet": {"path": "/healthz", "port": 8080}},
    },
}
MESH = {
    "defaultConfig": {"discoveryAddress": "istiod.istio-system.svc:15012", "meshId": "mesh1"},
    "trustDomain": "cluster.local",
}
BOTH_ADDRESSES = "a VM registers its service IP or its external IP, not both"
GOLDEN = Path(__file__).parent / "golden"


def files(group: dict[str, Any] = GROUP, mesh: dict[str, Any] = MESH, **options: Any) -> Any:
    given = {"cluster_id": "cluster1", "root_certificate": "ROOT\n", "istiod_address": "10.77.0.200", **options}
    return sidecar_files(group=group, mesh_config=mesh, **given)


def environment(**options: Any) -> dict[str, str]:
    lines = files(**options).cluster_env.splitlines()
    return {key: value.strip("'") for key, _, value in (line.partition("=") for line in lines)}


def annotated(outer: str | None, inner: str | None) -> dict[str, Any]:
    """Return the group with ProxyConfig annotations on both levels."""
    key = "proxy.istio.io/config"
    metadata = GROUP["metadata"] | ({"annotations": {key: outer}} if outer is not None else {})
    inside = GROUP["spec"]["metadata"] | ({"annotations": {key: inner}} if inner is not None else {})
    return {"metadata": metadata, "spec": GROUP["spec"] | {"metadata": inside}}


def test_the_usual_vm() -> None:
    made = files(service_ip="10.77.0.21")
    assert made.mesh_yaml == (GOLDEN / "mesh.yaml").read_text()
    assert made.cluster_env == (GOLDEN / "cluster.env").read_text()
    assert made.hosts == "10.77.0.200 istiod.istio-system.svc\n"
    assert made.root_certificate == "ROOT\n"


@pytest.mark.parametrize(
    ("mesh", "revision", "host"),
    [
        (MESH, "", "istiod.istio-system.svc"),
        ({}, "", "istiod.istio-system.svc"),
        (
            {"defaultConfig": {"discoveryAddress": "istiod-canary.istio-system.svc:15012"}},
            "canary",
            "istiod-canary.istio-system.svc",
        ),
    ],
    ids=["from the mesh", "from nowhere", "revisioned"],
)
def test_a_node_port_stands_after_istiods_name(mesh: dict[str, Any], revision: str, host: str) -> None:
    usual = files(mesh=mesh, revision=revision)
    made = files(mesh=mesh, revision=revision, istiod_port=31012)
    assert f"  discoveryAddress: {host}:31012\n" in made.mesh_yaml
    assert f"CA_ADDR='{host}:31012'\n" in made.cluster_env
    assert made.hosts == usual.hosts == f"10.77.0.200 {host}\n"
    assert "15012" not in made.mesh_yaml + made.cluster_env
    changed = {"discoveryAddress", "CA_ADDR"}
    for one, other in ((usual, made), (made, usual)):
        text = (one.mesh_yaml + one.cluster_env).splitlines()
        different = set(text) - set((other.mesh_yaml + other.cluster_env).splitlines())
        assert {line.strip().partition(":")[0].partition("=")[0] for line in different} <= changed


def test_a_groups_own_discovery_address_stays_with_a_node_port() -> None:
    group = annotated("discoveryAddress: istiod.elsewhere.svc:15012", None)
    assert "discoveryAddress: istiod.elsewhere.svc:15012" in files(group=group, istiod_port=31012).mesh_yaml


def test_a_bare_group_gets_istios_defaults() -> None:
    bare = {"metadata": {"name": "db", "namespace": "apps"}, "spec": {}}
    found = environment(group=bare, mesh={}, auto_register=False, capture_dns=False)
    assert found["CANONICAL_SERVICE"] == "db"
    assert found["CANONICAL_REVISION"] == "latest"
    assert found["SERVICE_ACCOUNT"] == "default"
    assert found["ISTIO_INBOUND_PORTS"] == "*"
    assert not {"ISTIO_META_POD_PORTS", "ISTIO_META_DNS_CAPTURE", "ISTIO_META_AUTO_REGISTER_GROUP"} & set(found)


@pytest.mark.parametrize("revision", ["", "default"])
def test_these_revisions_are_none(revision: str) -> None:
    assert files(revision=revision) == files()


def test_a_revision_changes_istiods_name_and_the_ca_address() -> None:
    made = files(revision="1-31-1", mesh={})
    assert made.hosts == "10.77.0.200 istiod-1-31-1.istio-system.svc\n"
    assert "  discoveryAddress: istiod-1-31-1.istio-system.svc:15012\n" in made.mesh_yaml
    assert "CA_ADDR='istiod-1-31-1.istio-system.svc:15012'\n" in made.cluster_env
    assert istiod_host("istio-system", "default") == "istiod.istio-system.svc"


def test_a_revision_keeps_the_meshs_own_discovery_address() -> None:
    assert "discoveryAddress: istiod.istio-system.svc:15012\n" in files(revision="canary").mesh_yaml


def test_the_external_ip_also_rewrites_the_probe() -> None:
    found = environment(external_ip="192.0.2.1")
    assert found["ISTIO_SVC_IP"] == "192.0.2.1"
    assert found["REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION"] == "true"


@pytest.mark.parametrize(
    ("port", "excluded"), [(0, ",15020"), (15020, ",15020"), (16000, ",16000"), (15021, ""), (15090, "")]
)
def test_the_status_port_is_excluded_once(port: int, excluded: str) -> None:
    mesh = {"defaultConfig": {"statusPort": port}}
    assert environment(mesh=mesh)["ISTIO_LOCAL_EXCLUDE_PORTS"] == "22,15090,15021" + excluded


def test_annotations_override_the_mesh_and_their_metadata_adds_up() -> None:
    group = annotated(
        "concurrency: 1\nproxyMetadata: {A: outer, B: outer}\n", "proxyMetadata: {B: inner}\nconcurrency: 3\n"
    )
    made = files(group=group, mesh={"defaultConfig": {"proxyMetadata": {"A": "mesh", "C": "mesh"}}})
    assert "  concurrency: 3\n" in made.mesh_yaml
    assert {"A='outer'", "B='inner'", "C='mesh'"} <= set(made.cluster_env.splitlines())


def test_an_annotation_may_bring_metadata_where_the_mesh_has_none() -> None:
    assert "A='1'\n" in files(group=annotated("proxyMetadata: {A: '1'}", None)).cluster_env


def test_template_labels_override_the_groups() -> None:
    group = {**GROUP, "spec": GROUP["spec"] | {"template": {"labels": {"app": "other", "version": ""}}}}
    found = environment(group=group)
    assert (found["CANONICAL_SERVICE"], found["CANONICAL_REVISION"]) == ("other", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"istiod_address": "lb.example.org"}, "istiod address: not an IP address (got 'lb.example.org')"),
        ({"service_ip": "10.0.0"}, "service address: not an IP address (got '10.0.0')"),
        ({"service_ip": "10.0.0.1", "external_ip": "10.0.0.2"}, BOTH_ADDRESSES),
        (
            {"group": annotated(None, "concurrency: many")},
            "spec.metadata.annotations[proxy.istio.io/config].concurrency: not a number (got 'many')",
        ),
        ({"group": annotated("- 1", None)}, "metadata.annotations[proxy.istio.io/config]: not a mapping (got '- 1')"),
    ],
)
def test_what_istioctl_would_get_wrong_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        files(**options)
    assert str(raised.value) == message
