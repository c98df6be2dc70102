"""A VM's credential: what is made in the cluster, and when a token is minted."""

from typing import Any

import pytest
from fake_cluster import FakeCluster
from waiting import wait_for

from cluster.client import ApiError, Client
from components.credential import CredentialArgs, keep_secret, mark_used, shown, token_if_needed
from registration.credentials import ASKED, Wanted

SECRETS = "/api/v1/namespaces/vm-apps/secrets"
PATH = f"{SECRETS}/istio-vm-billing-1"
OF_VM = "labelSelector=istio-vm-mesh%2Fvm%3Dbilling-1"


def arguments(**changes: Any) -> CredentialArgs:
    given: dict[str, Any] = {
        "vm": "billing-1",
        "namespace": "vm-apps",
        "service_account": "billing",
        "identity": "spiffe://x at 10.77.0.21",
        "entry": "billing-10.77.0.21-net1",
        "minutes": 30,
        "wanted": Wanted(),
    }
    return CredentialArgs(**{**given, **changes})


class Cluster(Client):
    """Holds one Secret, or none, and notes what it is asked for."""

    def __init__(self, there: bool = True) -> None:
        super().__init__(None, None)
        self.there = there
        self.asked: list[Any] = []

    def get(self, path: str) -> dict[str, Any] | None:
        assert path == PATH
        return {"metadata": {"uid": "u1"}} if self.there else None

    def patch(self, path: str, body: Any) -> dict[str, Any]:
        self.asked.append((path, body))
        return {}

    def post(self, path: str, body: Any) -> dict[str, Any]:
        self.asked.append((path, body["spec"]))
        return {"status": {"token": "a token"}}


@pytest.mark.parametrize("used", ["", "another root"])
def test_a_token_is_bound_to_its_secret(used: str) -> None:
    """A VM that was confirmed with none of its tokens, or has no certificate; another root takes the certificate."""
    cluster = Cluster()
    assert wait_for(token_if_needed(cluster, arguments(wanted=Wanted(used=used)), "this root")) == "a token"
    assert cluster.asked == [
        (
            "/api/v1/namespaces/vm-apps/serviceaccounts/billing/token",
            {
                "audiences": ["istio-ca"],
                "expirationSeconds": 1800,
                "boundObjectRef": {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "name": "istio-vm-billing-1",
                    "uid": "u1",
                },
            },
        )
    ]


def test_no_token_is_minted_for_a_vm_that_was_confirmed_with_one() -> None:
    cluster = Cluster()
    assert wait_for(token_if_needed(cluster, arguments(wanted=Wanted(used="this root")), "this root")) == ""
    assert cluster.asked == []


def test_what_is_revoked_by_hand_stays_revoked() -> None:
    assert wait_for(token_if_needed(Cluster(there=False), arguments(), "this root")) == ""


def named(*names: str) -> dict[str, Any]:
    return {"items": [{"metadata": {"name": name}} for name in names]}


def test_a_token_is_marked_as_used_under_a_root_once_older_ones_are_gone() -> None:
    cluster = FakeCluster(
        {f"{SECRETS}?{OF_VM}": named("istio-vm-billing-1", "istio-vm-billing-1.2"), PATH: {}, f"{PATH}.2": {}}
    )
    wait_for(mark_used(cluster, arguments(wanted=Wanted(number=2)), "this root"))
    assert cluster.sent == [
        ("DELETE", PATH, None),
        ("PATCH", f"{PATH}.2", {"metadata": {"annotations": {"istio-vm-mesh/used": "this root"}}}),
    ]


FIRST = {"SECRET": "vm-apps/istio-vm-billing-1", "IDENTITY": "spiffe://x at 10.77.0.21"}


def test_a_plan_shows_which_secret_whose_and_why() -> None:
    assert shown(arguments()) == FIRST
    assert shown(arguments(wanted=Wanted(number=2, because=ASKED), renew=True)) == {
        **FIRST,
        "SECRET": "vm-apps/istio-vm-billing-1.2",
        "BECAUSE": ASKED,
        "RENEW": "true",
    }


def test_a_secret_holds_nothing_and_says_whose_it_is() -> None:
    cluster = FakeCluster({SECRETS: {}})
    args = arguments()
    wait_for(keep_secret(cluster, args, {}, shown(args)))
    metadata = {
        "name": "istio-vm-billing-1",
        "labels": {"istio-vm-mesh/vm": "billing-1"},
        "annotations": {
            "istio-vm-mesh/identity": "spiffe://x at 10.77.0.21",
            "istio-vm-mesh/entry": "billing-10.77.0.21-net1",
        },
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque"}
    assert cluster.sent == [("POST", SECRETS, secret)]


def said(cluster: FakeCluster) -> dict[str, str | None]:
    """The annotations that were written last."""
    annotations: dict[str, str | None] = cluster.sent[-1][2]["metadata"]["annotations"]
    return annotations


def test_the_next_token_is_another_secrets_and_says_why() -> None:
    cluster = FakeCluster({SECRETS: {}})
    args = arguments(wanted=Wanted(number=2, because=ASKED), renew=True)
    wait_for(keep_secret(cluster, args, FIRST, shown(args)))
    assert [(method, body["metadata"]["name"]) for method, _, body in cluster.sent] == [
        ("POST", "istio-vm-billing-1.2")
    ]
    assert (said(cluster)["istio-vm-mesh/because"], said(cluster)["istio-vm-mesh/renew"]) == (ASKED, "true")


def test_a_vm_that_is_to_be_renewed_no_more_says_so_on_the_same_secret() -> None:
    cluster = FakeCluster({PATH: {}})
    wait_for(keep_secret(cluster, arguments(), {**FIRST, "RENEW": "true"}, FIRST))
    assert [(method, path) for method, path, _ in cluster.sent] == [("PATCH", PATH)]
    assert said(cluster)["istio-vm-mesh/renew"] is None


def test_a_secret_that_a_killed_run_has_made_is_taken() -> None:
    there = ApiError("it exists", status=409, reason="AlreadyExists")
    cluster = FakeCluster({SECRETS: there, PATH: {}})
    wait_for(keep_secret(cluster, arguments(), {}, FIRST))
    assert [(method, path) for method, path, _ in cluster.sent] == [("POST", SECRETS), ("PATCH", PATH)]


def test_a_secret_that_was_deleted_by_hand_is_not_made_again() -> None:
    cluster = FakeCluster()
    wait_for(keep_secret(cluster, arguments(wanted=Wanted(unseen=True)), FIRST, FIRST))
    assert [(method, path) for method, path, _ in cluster.sent] == [("PATCH", PATH)]


def test_a_vm_that_moves_to_another_namespace_leaves_no_secret_behind() -> None:
    old = "/api/v1/namespaces/old/secrets"
    cluster = FakeCluster({SECRETS: {}, f"{old}?{OF_VM}": named("istio-vm-billing-1"), f"{old}/istio-vm-billing-1": {}})
    args = arguments(wanted=Wanted(number=2, because="it moved"))
    wait_for(keep_secret(cluster, args, {"SECRET": "old/istio-vm-billing-1"}, shown(args)))
    assert [(method, path) for method, path, _ in cluster.sent] == [
        ("POST", SECRETS),
        ("DELETE", f"{old}/istio-vm-billing-1"),
    ]


@pytest.mark.parametrize("status", [403, 0])
def test_a_refusal_fails_the_step(status: int) -> None:
    cluster = FakeCluster({SECRETS: ApiError("no", status=status)})
    with pytest.raises(ApiError):
        wait_for(keep_secret(cluster, arguments(), {}, FIRST))
