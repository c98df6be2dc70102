"""What the program finds of a mesh before it makes anything, from what the cluster answers."""

from __future__ import annotations

import base64
from typing import Any

import pulumi
import pytest
from authorities import Made, make
from fake_cluster import FakeCluster

import mesh
from cluster.errors import ApiError
from components.ca import FILES
from settings.istio_models import CaSecret
from settings.models import Istio

ROOT = make("Root")
OWN = make("Own", ROOT)
NETWORK = {"f:metadata": {"f:labels": {"f:topology.istio.io/network": {}}}}


class Stack:
    """As much of a stack as is looked at."""

    authority = None

    def __init__(self, ca: CaSecret | None) -> None:
        self.istio = Istio(version="1.31.1").model_copy(update={"ca_secret": ca})


KEPT: Any = Stack(CaSecret(existing="cacerts"))


SECRET = "/api/v1/namespaces/istio-system/secrets/cacerts"
NAMESPACE = "/api/v1/namespaces/istio-system"
DEPLOYMENTS = "/apis/apps/v1/namespaces/istio-system/deployments"


def kept(own: Made = OWN, root: Made = ROOT, **changes: str | None) -> FakeCluster:
    """A cluster with the Secret."""
    parts = {"certificate": own.pem, "chain": own.pem, "root": root.pem, "key": "THE KEY", **changes}
    data = {FILES[name]: base64.b64encode(text.encode()).decode() for name, text in parts.items() if text is not None}
    return FakeCluster({SECRET: {"data": data}})


def test_a_secret_that_somebody_keeps_is_read_without_its_key() -> None:
    found = mesh.authority_of(KEPT, kept())
    assert found is not None
    assert (found.certificate, found.root, found.key) == (OWN.pem, ROOT.pem, None)


@pytest.mark.parametrize(
    ("cluster", "told"),
    [
        (FakeCluster(), " is not there, make it before this stack, or give istio.caSecret the files"),
        (kept(key=None), " has no ca-key.pem, make it before this stack, or give istio.caSecret the files"),
        (kept(root=make("Other")), ": CN=Own is not signed by CN=Other, the root that signed it, or"),
        (kept(chain="nothing"), ": holds no certificate that can be read, PEM certificates (BEGIN CERTIFICATE)"),
    ],
)
def test_one_that_istiod_could_not_use_ends_the_run(cluster: FakeCluster, told: str) -> None:
    with pytest.raises(pulumi.RunError) as caught:
        mesh.authority_of(KEPT, cluster)
    assert str(caught.value).startswith(f"istio.caSecret.existing: Secret istio-system/cacerts{told}")


def test_one_that_runs_out_soon_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warned.append)
    mesh.authority_of(KEPT, kept())
    assert warned == []
    old = make("Old", days=5.5)
    mesh.authority_of(KEPT, kept(own=old, root=old))
    assert [text.split(" and ")[0].split(", ")[1] for text in warned] == ["in 5 days,"]


@pytest.mark.parametrize(
    ("managed", "annotations", "ours"),
    [
        ([{"manager": "pulumi-kubernetes-1", "fieldsV1": NETWORK}], {}, True),
        ([{"manager": "pulumi-kubernetes-1", "fieldsV1": NETWORK}], {"istio-vm-mesh/adopted": "true"}, False),
        ([{"manager": "kubectl-label", "fieldsV1": NETWORK}], {}, False),
        ([{"manager": "pulumi-kubernetes-1", "fieldsV1": {}}], {}, False),
        ([], {}, False),
    ],
)
def test_a_namespace_that_the_stack_has_made_stays_its_own(
    managed: list[Any], annotations: dict[str, str], ours: bool
) -> None:
    """Taken for somebody else's, it would be deleted with all that is in it."""
    found = {"metadata": {"managedFields": managed, "annotations": annotations}}
    assert mesh.has_namespace(KEPT, FakeCluster({NAMESPACE: found})) is not ours


def test_without_a_kept_secret_nothing_is_asked() -> None:
    nothing: Any = Stack(None)
    cluster = kept()
    assert mesh.authority_of(nothing, cluster) is None
    assert mesh.has_namespace(nothing, cluster) is False
    assert cluster.asked == []


def named(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}}


ISTIO = {
    NAMESPACE: named("istio-system"),
    f"{DEPLOYMENTS}/istiod-x": named("istiod-x"),
    f"{NAMESPACE}/configmaps/istio-x": named("istio-x"),
    f"{NAMESPACE}/services/istiod-x:15014/proxy/version": "1.31.1-alpha.2-abc-Clean",
    "/apis/networking.istio.io/v1": {"resources": [{"name": "workloadgroups"}]},
}


def test_facts_of_an_istio() -> None:
    found = mesh.facts(FakeCluster(ISTIO), "x")
    assert (found.version, found.kinds) == ("1.31.1-alpha.2", frozenset({"workloadgroups"}))
    there = (found.namespace, found.istiod, found.mesh, found.injector, found.gateway)
    assert [one and one["metadata"]["name"] for one in there] == ["istio-system", "istiod-x", "istio-x", None, None]


def test_a_version_that_may_not_be_read_is_unknown() -> None:
    forbidden = ApiError("the Kubernetes API refused: no", status=403)
    found = mesh.facts(FakeCluster({**ISTIO, f"{NAMESPACE}/services/istiod-x:15014/proxy/version": forbidden}), "x")
    assert found.version == ""


def test_other_istiods_are_looked_for_where_there_is_not_this_one() -> None:
    others = {f"{DEPLOYMENTS}?labelSelector=app%3Distiod": {"items": [named("istiod-a"), named("istiod-b")]}}
    found = mesh.facts(FakeCluster(others), "")
    assert (found.istiod, found.revisions) == (None, ("istiod-a", "istiod-b"))


def test_an_api_that_gives_no_answer_ends_the_run_with_its_words() -> None:
    def down(path: str) -> ApiError:
        return ApiError("the Kubernetes API at https://x refuses connections")

    for ask in (lambda: mesh.facts(FakeCluster(down), ""), lambda: mesh.authority_of(KEPT, FakeCluster(down))):
        with pytest.raises(pulumi.RunError, match=r"^the Kubernetes API at https://x refuses connections$"):
            ask()
