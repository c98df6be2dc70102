"""A VM's credential: what is made in the cluster, and when a token is minted."""

from typing import Any

import pulumi
import pytest
from recording import run, secrets
from waiting import wait_for

from cluster.client import Client
from components.credential import CredentialArgs, mark_used, secret, token_if_needed
from registration.credentials import ASKED, Wanted

PATH = "/api/v1/namespaces/vm-apps/secrets/istio-vm-billing-1"


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


def made(**changes: Any) -> dict[str, Any]:
    def program() -> dict[str, Any]:
        secret(arguments(**changes), pulumi.ResourceOptions())
        return {}

    return run(program)["billing-1-secret"].inputs


def test_a_secret_holds_nothing_and_says_whose_it_is() -> None:
    inputs = made()
    assert inputs["metadata"] == {
        "name": "istio-vm-billing-1",
        "namespace": "vm-apps",
        "labels": {"istio-vm-mesh/vm": "billing-1"},
        "annotations": {
            "istio-vm-mesh/identity": "spiffe://x at 10.77.0.21",
            "istio-vm-mesh/entry": "billing-10.77.0.21-net1",
        },
    }
    assert not {"data", "stringData"} & set(inputs)
    assert secrets(inputs) == []


def test_the_next_token_is_another_secrets_and_says_why() -> None:
    metadata = made(wanted=Wanted(number=2, because=ASKED), renew=True)["metadata"]
    assert metadata["name"] == "istio-vm-billing-1.2"
    assert metadata["annotations"]["istio-vm-mesh/because"] == ASKED
    assert metadata["annotations"]["istio-vm-mesh/renew"] == "true"


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


def test_a_token_is_marked_as_used_under_a_root() -> None:
    cluster = Cluster()
    wait_for(mark_used(cluster, arguments(), "this root"))
    assert cluster.asked == [(PATH, {"metadata": {"annotations": {"istio-vm-mesh/used": "this root"}}})]
