"""What the policies of a namespace and of a workload say."""

from typing import Any

import pulumi
import pytest
from recording import run

from components.policies import (
    UNSEEN_BY_ANALYZE,
    Access,
    Policies,
    PoliciesArgs,
    authorization_policy,
    peer_authentication,
)
from components.vm_namespace import VmNamespace, VmNamespaceArgs, injection_labels


def test_mutual_tls_of_a_namespace() -> None:
    assert peer_authentication(PoliciesArgs(namespace="shop", mutual_tls="STRICT")) == {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {"mtls": {"mode": "STRICT"}},
    }


def test_each_rule_asks_for_what_it_says_and_no_more() -> None:
    rules = [
        Access(principals=["cluster.local/ns/shop/sa/checkout"], methods=["GET"], paths=["/api/*"], ports=[8080]),
        Access(principals=["*"]),
        Access(ports=[9000]),
    ]
    assert authorization_policy("billing-access", "vm-apps", rules, {"app": "billing"}) == {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "billing-access", "namespace": "vm-apps", "annotations": UNSEEN_BY_ANALYZE},
        "spec": {
            "action": "ALLOW",
            "selector": {"matchLabels": {"app": "billing"}},
            "rules": [
                {
                    "from": [{"source": {"principals": ["cluster.local/ns/shop/sa/checkout"]}}],
                    "to": [{"operation": {"methods": ["GET"], "paths": ["/api/*"], "ports": ["8080"]}}],
                },
                {"from": [{"source": {"principals": ["*"]}}]},
                {"to": [{"operation": {"ports": ["9000"]}}]},
            ],
        },
    }


def test_without_a_rule_nobody_gets_in() -> None:
    # One without rules lets nothing in; an empty rule would let everything in.
    assert authorization_policy("namespace", "shop", [])["spec"] == {"action": "ALLOW"}


@pytest.mark.parametrize(
    ("said", "made"),
    [
        ({"mutual_tls": "STRICT"}, {"shop-mutual-tls"}),
        ({"access": []}, {"shop-namespace-access"}),
        ({"mutual_tls": "DISABLE", "access": [Access(ports=[80])]}, {"shop-mutual-tls", "shop-namespace-access"}),
    ],
)
def test_it_registers_what_is_asked_for(said: dict[str, Any], made: set[str]) -> None:
    def program() -> dict[str, Any]:
        leaf = pulumi.CustomResource("test:index:Leaf", "leaf", {})
        Policies("shop-policies", PoliciesArgs(namespace="shop", after=[leaf], **said))
        return {}

    done = run(program)
    assert done.names == {"leaf", "shop-policies"} | made
    for name in made:
        assert (done[name].parent_name, done[name].dependency_names) == ("shop-policies", {"leaf"})


@pytest.mark.parametrize(
    ("injection", "revision", "labels"),
    [
        ("disabled", "1-31", {"istio-injection": "disabled"}),
        ("enabled", "", {"istio-injection": "enabled"}),
        # The label would mean the default revision, whose webhook may be another control plane's, or none.
        ("enabled", "1-31", {"istio.io/rev": "1-31"}),
        ("prod", "1-31", {"istio.io/rev": "prod"}),
        ("byPod", "1-31", {}),
    ],
)
def test_how_istiods_webhooks_know_a_namespace(injection: str, revision: str, labels: dict[str, str]) -> None:
    assert injection_labels(injection, revision) == labels


def test_a_namespace_bears_its_labels_and_is_not_injected_unless_asked() -> None:
    done = run(lambda: {"ready": len(VmNamespace("shop", VmNamespaceArgs(labels={"team": "a"})).ready)})
    assert done.names == {"shop", "shop-namespace"}
    assert done["shop-namespace"].inputs["metadata"]["labels"] == {"team": "a", "istio-injection": "disabled"}
