"""The DestinationRule and the VirtualService of a host, and when there is neither."""

from typing import Any

import pytest
from recording import Run, run

from components.traffic import TrafficPolicy, TrafficPolicyArgs, destination_rule, virtual_service
from settings.traffic_models import HostTraffic
from traffic_arguments import http_rules

HOST = "billing.vm-apps.svc.cluster.local"
SUBSETS = {"v1": {"version": "v1"}, "v2": {"version": "v2"}}
ROUTE = {"route": [{"destination": {"host": HOST}}]}


def arguments(**changes: Any) -> TrafficPolicyArgs:
    return TrafficPolicyArgs(host=HOST, namespace="vm-apps", **changes)


def registered(**changes: Any) -> Run:
    def program() -> dict[str, Any]:
        TrafficPolicy(HOST, arguments(**changes))
        return {}

    return run(program)


def test_destination_rule() -> None:
    policy = {"connectionPool": {"tcp": {"maxConnections": 1}}}
    assert destination_rule(arguments(subsets=SUBSETS, policy=policy)) == {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": HOST, "namespace": "vm-apps"},
        "spec": {
            "host": HOST,
            "subsets": [{"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}],
            "trafficPolicy": policy,
        },
    }
    # istiod refuses an empty policy.
    assert destination_rule(arguments(subsets=SUBSETS))["spec"].keys() == {"host", "subsets"}


def test_virtual_service() -> None:
    assert virtual_service(arguments(rules=[ROUTE])) == {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": HOST, "namespace": "vm-apps"},
        "spec": {"hosts": [HOST], "http": [ROUTE]},
    }


@pytest.mark.parametrize(
    ("changes", "made"),
    [
        ({"subsets": SUBSETS, "rules": [ROUTE]}, {"destination-rule", "virtual-service"}),
        ({"subsets": SUBSETS}, {"destination-rule"}),
        ({"policy": {"outlierDetection": {}}}, {"destination-rule"}),
        ({"rules": [ROUTE]}, {"virtual-service"}),
    ],
)
def test_only_what_is_needed_is_made(changes: dict[str, Any], made: set[str]) -> None:
    assert registered(**changes).names == {HOST, *(f"{HOST}-{role}" for role in made)}


def test_routes_come_after_the_subsets_that_they_lead_to() -> None:
    done = registered(subsets=SUBSETS, rules=[ROUTE])
    assert done[f"{HOST}-virtual-service"].dependency_names == {f"{HOST}-destination-rule"}
    assert done[f"{HOST}-virtual-service"].parent_name == HOST


@pytest.mark.parametrize(
    ("traffic", "rules"),
    [
        ({"subsets": SUBSETS}, []),
        ({"timeout": "2s"}, [{**ROUTE, "timeout": "2s"}]),
        ({"retries": {"attempts": 0}}, [{**ROUTE, "retries": {"attempts": 0}}]),
        (
            {
                "routes": [{"subset": "v1", "weight": 90}, {"subset": "v2", "weight": 10}],
                "timeout": "2s",
                "retries": {"attempts": 2, "perTryTimeout": "2s", "retryOn": "5xx,503"},
            },
            [
                {
                    "route": [
                        {"destination": {"host": HOST, "subset": "v1"}, "weight": 90},
                        {"destination": {"host": HOST, "subset": "v2"}, "weight": 10},
                    ],
                    "timeout": "2s",
                    "retries": {"attempts": 2, "perTryTimeout": "2s", "retryOn": "5xx,503"},
                }
            ],
        ),
        (
            {"routes": [{"host": "legacy.vm-apps.svc.cluster.local", "port": 81}]},
            [{"route": [{"destination": {"host": "legacy.vm-apps.svc.cluster.local", "port": {"number": 81}}}]}],
        ),
    ],
)
def test_rules_in_istios_words(traffic: dict[str, Any], rules: list[dict[str, Any]]) -> None:
    assert http_rules(HOST, HostTraffic.model_validate(traffic)) == rules
