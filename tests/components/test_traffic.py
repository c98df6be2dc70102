"""The DestinationRule and the VirtualService of a host, and when there is neither."""

from typing import Any

import pytest
from recording import Run, run

from arguments.traffic import http_rules, traffic_policy
from components.traffic import UNSEEN_BY_ANALYZE, TrafficPolicy, TrafficPolicyArgs, destination_rule, virtual_service
from settings.traffic_models import HostTraffic

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
        "metadata": {"name": HOST, "namespace": "vm-apps", "annotations": UNSEEN_BY_ANALYZE},
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


def test_conditions_mirrors_and_faults_in_istios_words() -> None:
    conditions = {
        "headers": {"x-user": {"exact": "me"}, "x-trace": {"present": True}},
        "method": "GET",
        "path": {"prefix": "/api"},
    }
    fault = {"abort": {"httpStatus": 503, "percent": 10}, "delay": {"fixedDelay": "5s"}}
    mirror = {"subset": "v2", "percent": 20}
    traffic = {"timeout": "2s", "matches": [{**conditions, "fault": fault}, {"method": "PUT", "mirror": mirror}]}
    assert http_rules(HOST, HostTraffic.model_validate(traffic)) == [
        {
            "match": [
                {
                    "headers": {"x-user": {"exact": "me"}, "x-trace": {}},
                    "method": {"exact": "GET"},
                    "uri": {"prefix": "/api"},
                }
            ],
            **ROUTE,
            "fault": {
                "abort": {"httpStatus": 503, "percentage": {"value": 10}},
                "delay": {"fixedDelay": "5s", "percentage": {"value": 100}},
            },
        },
        {
            "match": [{"method": {"exact": "PUT"}}],
            **ROUTE,
            "timeout": "2s",
            "mirrors": [{"destination": {"host": HOST, "subset": "v2"}, "percentage": {"value": 20}}],
        },
        {**ROUTE, "timeout": "2s"},
    ]


@pytest.mark.parametrize(
    ("traffic", "policy"),
    [
        ({"timeout": "2s"}, {}),
        (
            {"connectionPool": {"tcp": {"maxConnections": 1}, "http": {"http1MaxPendingRequests": 2}}},
            {"connectionPool": {"tcp": {"maxConnections": 1}, "http": {"http1MaxPendingRequests": 2}}},
        ),
        ({"outlierDetection": {}}, {"outlierDetection": {}}),
        (
            {"outlierDetection": {"consecutive5xxErrors": 7, "consecutiveGatewayErrors": 6}},
            {"outlierDetection": {"consecutive5xxErrors": 7, "consecutiveGatewayErrors": 6}},
        ),
        # istiod refuses the number where the failures are not counted apart.
        (
            {"outlierDetection": {"consecutiveLocalOriginFailures": 3}},
            {"outlierDetection": {"consecutiveLocalOriginFailures": 3, "splitExternalLocalOriginErrors": True}},
        ),
        ({"loadBalancer": {"simple": "RANDOM"}}, {"loadBalancer": {"simple": "RANDOM"}}),
        (
            {"loadBalancer": {"locality": {"distribute": {"eu/a": {"eu/a": 80, "eu/b": 20}}}}},
            {
                "loadBalancer": {
                    "localityLbSetting": {
                        "enabled": True,
                        "distribute": [{"from": "eu/a", "to": {"eu/a": 80, "eu/b": 20}}],
                    }
                }
            },
        ),
        (
            {"loadBalancer": {"locality": {"failover": {"eu": "us"}, "failoverPriority": ["version=v1"]}}},
            {
                "loadBalancer": {
                    "localityLbSetting": {
                        "enabled": True,
                        "failover": [{"from": "eu", "to": "us"}],
                        "failoverPriority": ["version=v1"],
                    }
                }
            },
        ),
        (
            {"loadBalancer": {"locality": {"enabled": False}}},
            {"loadBalancer": {"localityLbSetting": {"enabled": False}}},
        ),
    ],
)
def test_policies_in_istios_words(traffic: dict[str, Any], policy: dict[str, Any]) -> None:
    assert traffic_policy(HostTraffic.model_validate(traffic)) == policy
