"""Traffic rules together with the rest of a stack: what is taken, and what only two sections together make wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from settings import mesh_host, parse
from settings.service_models import MeshService
from settings.traffic_models import HostTraffic
from settings.traffic_scalars import Regex, milliseconds

HOST = "billing.vm-apps.svc.cluster.local"
PATH = f'traffic["{HOST}"]'


def test_the_classic_pair_is_taken(stack: dict[str, Any], project: Path) -> None:
    stack["workloads"]["billing"]["labels"]["version"] = "v1"
    rules = {
        "subsets": {"v1": {"version": "v1"}, "v2": {"version": "v2"}},
        "routes": [{"subset": "v1", "weight": 90}, {"subset": "v2", "weight": 10}],
        "timeout": "2s",
        "retries": {"attempts": 2, "perTryTimeout": "2s"},
    }
    stack["traffic"] = {HOST: rules}
    assert parse(stack, project_dir=project).traffic == {HOST: HostTraffic.model_validate(rules)}


def test_a_service_finds_vms_of_other_workloads(stack: dict[str, Any], problems: Callable[..., list[str]]) -> None:
    vm = {"address": "10.0.0.9", "static": True}
    other = {"namespace": "vm-apps", "serviceAccount": "next", "ports": {"http": 8080}, "vms": {"next-1": vm}}
    other["labels"] = {"app": "billing", "version": "v3"}
    stack["workloads"]["next"] = other
    stack["traffic"] = {HOST: {"subsets": {"v3": {"version": "v3"}}, "routes": [{"subset": "v3"}]}}
    assert problems(stack) == []
    for key, value in (("namespace", "elsewhere"), ("labels", {"app": "next", "version": "v3"})):
        stack["workloads"]["next"] = {**other, key: value}
        assert problems(stack) == [
            f'{PATH}.subsets.v3: labels that no VM or endpoint of the host bears (got "version=v3"), '
            "labels of some of them, or podSubsets: [v3] where pods bear them"
        ]


def test_rules_for_requests_need_a_port_with_requests(
    stack: dict[str, Any], problems: Callable[..., list[str]]
) -> None:
    workload = stack["workloads"]["billing"]
    workload["ports"], workload["service"] = {"tcp-in": 8080}, {"ports": {"tcp-in": 80}}
    told = [
        f"{PATH}: rules for HTTP requests of a host whose ports are tcp-in, "
        "leave them out, or name a port http, http2 or grpc"
    ]
    for rules in ({"timeout": "2s"}, {"matches": [{"method": "GET"}]}):
        stack["traffic"] = {HOST: rules}
        assert problems(stack) == told
    stack["traffic"] = {HOST: {"connectionPool": {"tcp": {"maxConnections": 1}}}}
    assert problems(stack) == []
    workload["ports"], workload["service"] = {"web": 8080}, {"ports": {"web": 80}}  # Istio looks at the requests
    stack["traffic"] = {HOST: {"timeout": "2s"}}
    assert problems(stack) == []


def test_another_host_needs_a_port_of_the_requests(stack: dict[str, Any], problems: Callable[..., list[str]]) -> None:
    other = {**stack["workloads"]["billing"], "ports": {"http": 8080, "http-admin": 9090}, "vms": {}}
    other |= {"service": {"ports": {"http": 8080, "http-admin": 9090}}}
    stack["workloads"]["next"] = other
    to = {"host": "next.vm-apps.svc.cluster.local"}
    stack["traffic"] = {HOST: {"mirror": to}}
    assert problems(stack) == [
        f"{PATH}.mirror.port: missing, and next.vm-apps.svc.cluster.local has several, but not all of this host's, "
        "one of 8080, 9090"
    ]
    to["port"] = 9090
    assert problems(stack) == []


def test_hosts_that_are_declared(stack: dict[str, Any], project: Path) -> None:
    settings = parse(stack, project_dir=project)
    service = MeshService.model_construct(namespace="shop", hosts=("reviews.example.org",), ports={"http": 80})
    found = {host: mesh_host(host, settings.workloads, {"reviews": service}) for host in (HOST, "reviews.example.org")}
    assert {host: (known.namespace, known.ports) for host, known in found.items() if known} == {
        HOST: ("vm-apps", {"http": 80}),
        "reviews.example.org": ("shop", {"http": 80}),
    }
    a_pods = mesh_host("hello.traffic.svc.cluster.local", settings.workloads, {})
    assert a_pods is not None
    assert a_pods.namespace == "traffic"


def effective(host: dict[str, Any], match: dict[str, Any]) -> dict[str, Any]:
    traffic = HostTraffic.model_validate({**host, "matches": [{"method": "GET", **match}]})
    return (
        traffic.matches[0]
        .under(traffic)
        .model_dump(by_alias=True, exclude_none=True, exclude={"method"}, exclude_defaults=True)
    )


def test_a_rule_takes_what_it_does_not_say_from_the_host() -> None:
    host = {
        "routes": [{"subset": "v1"}],
        "timeout": "2s",
        "retries": {"attempts": 2},
        "mirror": {"subset": "v2"},
    }
    fault = {"delay": {"fixedDelay": "1s"}}
    routes = {"routes": [{"subset": "v1"}], "mirror": {"subset": "v2"}}
    limits = {"timeout": "2s", "retries": {"attempts": 2}}
    assert effective(host, {}) == {**routes, **limits}
    assert effective(host, {"timeout": "9s"}) == {**routes, **limits, "timeout": "9s"}
    assert effective(host, {"fault": fault}) == {**routes, "fault": fault}
    assert effective({"fault": fault}, {}) == {"fault": fault}
    assert effective({"fault": fault}, {"timeout": "9s"}) == {"timeout": "9s"}


@pytest.mark.parametrize(
    ("text", "length"), [("1ms", 1), ("0.001s", 1), ("1.5s", 1500), ("2m", 120_000), ("1h", 3_600_000), ("2 s", 0)]
)
def test_durations(text: str, length: int) -> None:
    assert milliseconds(text) == length


REGEX = TypeAdapter(Regex)


@pytest.mark.parametrize(
    "text",
    ["/a.*", r"/v\d+/[^/]+", r"(?:a|b)+?", r"(?P<n>x){2,5}", r"[[]", r"a\.b", r"\\\\Z", r"x{1000}", "é", r"[a\-z]"],
)  # fmt: skip
def test_a_regular_expression_of_go_and_python(text: str) -> None:
    assert REGEX.validate_python(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "(?=a)", "(?!a)", "(?<=a)b", r"(a)\1", r"(?P<n>a)(?P=n)", "(?>a)", "a++", "a?+", "a{2}+", r"a\Z",
        r"\u0041", "a{1001}", "(a{100}){20}", "(?#x)", "(?i)a", "[[:x:]]",
        "a{,3}", "a" * 1025, "(" * 500 + ")" * 500, "\\", "a**", "[b-a]", "\n",
    ],
)  # fmt: skip
def test_a_regular_expression_that_istiod_might_refuse(text: str) -> None:
    with pytest.raises(ValidationError):
        REGEX.validate_python(text)
