"""What the settings know of the hosts of a stack, and mistakes that take more than one change."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_settings_fuzz import spoiled

from settings import SettingsError, parse, protocol_of
from settings.draft import draft_of
from settings.service_hosts import hosts_of


def entry(**changes: Any) -> dict[str, Any]:
    return {"namespace": "vm-apps", "hosts": ["a.mesh.internal"], "ports": {"http": 80}} | changes


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("http", "HTTP"),
        ("http2-api", "HTTP2"),
        ("grpc-web", "GRPC-WEB"),
        ("grpc-webhooks", "GRPC-WEB"),  # as ConvertProtocol has it
        ("grpc-admin", "GRPC"),
        ("tcp-db", "TCP"),
        ("web", ""),
        ("httpx", ""),
    ],
)
def test_a_ports_name_says_its_protocol(name: str, protocol: str) -> None:
    assert protocol_of(name) == protocol


def test_the_hosts_of_a_stack_and_what_answers(stack: dict[str, Any], project: Path) -> None:
    stack["services"] = {
        "spanning": entry(selector={"app": "billing", "version": "v2"}, pods=True, exportTo=[".", "shop"]),
        "fixed": entry(hosts=["b.mesh.internal"], endpoints=[{"address": "10.0.0.9", "labels": {"version": "v0"}}]),
        "by-name": entry(hosts=["c.mesh.internal", "d.mesh.internal"], resolution="DNS", exportTo=["~"]),
    }
    assert parse(stack, project_dir=project).services["fixed"].location == "MESH_INTERNAL"
    hosts = {host.name: host for host in hosts_of(draft_of(stack))}
    assert list(hosts) == ["billing.vm-apps.svc.cluster.local", *(f"{x}.mesh.internal" for x in "abcd")]
    service, spanning, fixed, by_name = (hosts[name] for name in list(hosts)[:4])
    assert (service.entry, service.owner, service.pods) == (False, "workloads.billing.service", False)
    assert [labels["service.istio.io/canonical-revision"] for labels in service.endpoints] == ["latest", "v2", "latest"]
    assert (spanning.entry, spanning.pods, spanning.seen_by) == (True, True, {"vm-apps", "shop"})
    assert spanning.endpoints == (
        {
            "app": "billing",
            "version": "v2",
            "service.istio.io/canonical-name": "billing",
            "service.istio.io/canonical-revision": "v2",
        },
    )
    assert (fixed.endpoints, fixed.pods, fixed.path) == (({"version": "v0"},), False, "services.fixed.hosts[0]")
    assert (by_name.endpoints, by_name.pods, by_name.seen_by) == ((), True, set())


def test_a_workload_without_vms_is_found_by_its_own_labels(
    stack: dict[str, Any], problems: Callable[..., list[str]]
) -> None:
    stack["workloads"]["batch"] = {"namespace": "vm-batch", "serviceAccount": "batch"}
    found = entry(namespace="vm-batch", selector={"service.istio.io/canonical-name": "batch"})
    stack["services"] = {"batch": found}
    assert problems(stack) == []


def test_hosts_that_nobody_sees_together_are_no_collision(
    stack: dict[str, Any], problems: Callable[..., list[str]]
) -> None:
    stack["services"] = {
        "a": entry(resolution="DNS", exportTo=["."]),
        "b": entry(resolution="DNS", namespace="shop", exportTo=["."]),
        "c": entry(resolution="DNS", namespace="shop", exportTo=["~"]),
    }
    assert problems(stack) == []


def test_a_workloads_host_outside_the_cluster_collides_with_a_service(
    stack: dict[str, Any], problems: Callable[..., list[str]]
) -> None:
    stack["workloads"]["billing"]["service"]["host"] = "a.mesh.internal"
    assert problems(stack) == []
    stack["services"] = {"billing": entry(resolution="DNS")}
    assert problems(stack) == [
        'services.billing.hosts[0]: the host of workloads.billing.service too (got "a.mesh.internal"), '
        "a host of its own",
        "services.billing: a ServiceEntry of that name is in vm-apps already, that of workloads.billing.service, "
        "another name",
    ]


@pytest.mark.parametrize("values", [{"env": {"X": 1}}, {"pilot": {"env": {}}}, {"pilot": None}])
def test_addresses_are_allocated_by_default(
    values: dict[str, Any], stack: dict[str, Any], problems: Callable[..., list[str]]
) -> None:
    stack["istio"]["values"] = values
    stack["services"] = {"db": entry(ports={"tcp-db": 5432}, resolution="DNS")}
    assert problems(stack) == []


@pytest.mark.parametrize("place", ["env", "pilot"])
def test_without_allocated_addresses_a_port_would_take_everything(
    place: str, stack: dict[str, Any], problems: Callable[..., list[str]]
) -> None:
    off = {"PILOT_ENABLE_IP_AUTOALLOCATE": "false"}
    stack["istio"]["values"] = {"env": off} if place == "env" else {"pilot": {"env": off}}
    stack["services"] = {"db": entry(ports={"tcp-db": 5432}, resolution="DNS")}
    assert problems(stack) == [
        "services.db.ports.tcp-db: would take everything that goes to that port, wherever: no address is allocated "
        "(PILOT_ENABLE_IP_AUTOALLOCATE is false), and its protocol does not say the host (got the number 5432), "
        "addresses, or an http, grpc, https or tls port"
    ]
    stack["services"]["db"]["addresses"] = ["10.100.0.7"]
    assert problems(stack) == []


@pytest.mark.parametrize("injection", ["enabled", "disabled", "byPod", "default", "prod", "canary", "next", None])
def test_a_further_namespace_takes_any_injection_that_there_is(
    injection: str | None, stack: dict[str, Any], problems: Callable[..., list[str]]
) -> None:
    stack["istio"]["revisionTags"] = ["prod"]
    stack["istio"]["revisions"] = {"canary": {"revisionTags": ["next"]}}
    stack["namespaces"] = {"shop": {"injection": injection}}
    assert problems(stack) == []


def test_the_mesh_without_mutual_tls_lets_nobody_prove_who_calls(
    stack: dict[str, Any], problems: Callable[..., list[str]]
) -> None:
    stack["workloads"]["billing"]["access"] = [{"from": ["billing"]}]
    stack["istio"]["mutualTls"] = "DISABLE"
    assert problems(stack) == [
        "workloads.billing.access[0].from: nobody proves who calls without mutual TLS, and istio.mutualTls is DISABLE, "
        "STRICT or PERMISSIVE there, or a rule without from"
    ]
    stack["namespaces"] = {"vm-apps": {"mutualTls": "PERMISSIVE"}}
    assert problems(stack) == []


def test_subsets_of_an_entrys_host_need_endpoints(stack: dict[str, Any], problems: Callable[..., list[str]]) -> None:
    fixed = [{"address": "10.0.0.9", "labels": {"version": "v0"}}]
    stack["services"] = {
        "a": entry(selector={"app": "billing"}),
        "b": entry(hosts=["b.internal"], endpoints=fixed),
        "c": entry(hosts=["c.internal"], selector={"app": "billing"}, pods=True),
        "d": entry(hosts=["d.internal"], resolution="DNS"),
    }
    hosts = ("a.mesh.internal", "b.internal", "c.internal", "d.internal")

    def told(version: str, **more: Any) -> list[str]:
        rules = {"subsets": {"x": {"version": version}}, "routes": [{"subset": "x"}], **more}
        stack["traffic"] = dict.fromkeys(hosts, rules)
        return [problem.split(", ")[0] for problem in problems(stack)]

    nobody = 'subsets.x: labels that no VM or endpoint of the host bears (got "version='
    assert told("v2") == [f'traffic["b.internal"].{nobody}v2")']
    assert told("v0") == [f'traffic["a.mesh.internal"].{nobody}v0")']
    assert told("v3") == [f'traffic["{host}"].{nobody}v3")' for host in hosts[:2]]
    assert told("v3", podSubsets=["x"]) == []
    stack["workloads"]["billing"]["vms"] = {}
    assert told("v2") == [f'traffic["{host}"].{nobody}v2")' for host in hosts[:2]]


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_spoiled_services_and_policies_are_refused_with_paths(
    data: st.DataObject, stack: dict[str, Any], project: Path
) -> None:
    mesh = {
        "namespaces": {"shop": {"injection": "byPod", "mutualTls": "STRICT", "access": [{"from": ["billing"]}]}},
        "services": {
            "a": entry(selector={"app": "billing"}, exportTo=["."]),
            "b": entry(hosts=["b.internal"], endpoints=[{"address": "10.0.0.9"}], addresses=["10.100.0.0/24"]),
        },
    }
    stack["workloads"] = {
        "billing": {
            "namespace": "vm-apps",
            "serviceAccount": "billing",
            "ports": {"http": 8080, "tcp-db": 9000},
            "access": [{"from": ["billing", "a/b"], "methods": ["GET"], "paths": ["/"], "ports": ["http"]}],
            "vms": {"billing-1": stack["workloads"]["billing"]["vms"]["billing-1"]},
        }
    }
    try:
        parse(stack | data.draw(spoiled(mesh)), project_dir=project)
    except SettingsError as error:
        assert all(problem.path and "docs/configuration.md" not in problem.right for problem in error.problems)


@pytest.mark.parametrize(
    ("place", "key", "few", "many"),
    [
        ("services.many", "hosts", [f"h{n}.example.com" for n in range(256)], ["h.example.org"]),
        ("services.many", "ports", {f"http-{n}": 1000 + n for n in range(256)}, {"http": 80}),
        (
            "services.many",
            "endpoints",
            [{"address": f"10.{n // 250}.{n % 250}.1"} for n in range(4096)],
            [{"address": "10.9.9.9"}],
        ),
        ("services.many", "addresses", [f"10.100.{n}.1" for n in range(256)], ["10.101.0.1"]),
        ("workloads.billing", "ports", {f"http-{n}": 1000 + n for n in range(127)} | {"http": 8080}, {"tcp": 9}),
        ("workloads.billing", "labels", {f"l{n}": "" for n in range(99)} | {"app": "billing"}, {"a": "b"}),
        ("workloads.billing", "access", [{"ports": [8080]}] * 512, [{"from": ["*"]}]),
    ],
)
def test_lists_are_as_long_as_istios_schemas_allow(
    stack: dict[str, Any], problems: Callable[..., list[str]], place: str, key: str, few: Any, many: Any
) -> None:
    endpoints = [{"address": "10.9.9.8"}]
    stack["services"] = {"many": {"namespace": "a", "hosts": ["a.b"], "ports": {"http": 80}, "endpoints": endpoints}}
    section, name = place.split(".")
    stack[section][name][key] = few
    assert problems(stack) == []
    stack[section][name][key] = few | many if isinstance(few, dict) else few + many
    shown = "mapping" if isinstance(few, dict) else "list"
    got = f"(got a {shown} of {len(few) + 1})"
    assert problems(stack)[0] == f"{place}.{key}: too many entries {got}, at most {len(few)}"
