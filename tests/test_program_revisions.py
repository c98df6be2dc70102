"""The whole program with two control planes, tags and an ingress gateway: each VM gets the one it asks for."""

from pathlib import Path
from typing import Any

import pytest
from recording import Run
from test_program import STACK, points, project, run_program

__all__ = ["project"]

SERVICES = "/api/v1/namespaces/istio-system/services"

CANARY = "istiod-canary.istio-system.svc"


def two_revisions(patch: pytest.MonkeyPatch) -> None:
    """Put ledger on a canary."""
    revisions = {"canary": {"version": "1.32.0", "values": {"meshConfig": {"defaultConfig": {"concurrency": 1}}}}}
    patch.setitem(STACK, "istio", {**STACK["istio"], "revisionTags": ["prod"], "revisions": revisions})
    ledger = {**STACK["workloads"]["ledger"], "revision": "canary"}
    patch.setitem(STACK, "workloads", {**STACK["workloads"], "ledger": ledger})


@pytest.fixture(scope="module")
def two(project: Path) -> Run:
    """A run with two control planes."""
    with pytest.MonkeyPatch.context() as patch:
        two_revisions(patch)
        return run_program()


def test_a_vms_files_are_of_its_revision(two: Run) -> None:
    ledger, billing = (two[f"{vm}-configure"].inputs["stdin"] for vm in ("ledger-1", "billing-1"))
    for line in (
        f"hosts: 10.77.0.200 {CANARY}",
        f"mesh:   discoveryAddress: {CANARY}:15012",
        "mesh:   concurrency: 1",
        f"cluster.env: CA_ADDR='{CANARY}:15012'",
    ):
        assert f"\n{line}\n" in ledger, line
    assert "canary" not in billing
    assert "concurrency" not in billing
    assert "istio-istiod-canary" in two["ledger-group"].dependency_names
    assert "istio-istiod-canary" not in two["billing-group"].dependency_names
    assert two["ledger-1-configure"].dependency_names == {"ledger-group"}


def test_the_outputs_say_who_is_where(two: Run) -> None:
    assert two.values["mesh"]["istiod"]["host"] == "istiod.istio-system.svc"
    assert two.values["mesh"]["revisions"] == {
        "default": {"istiod": "istiod.istio-system.svc", "tags": ["prod"]},
        "canary": {"istiod": CANARY, "tags": []},
    }
    revisions = {name: workload["revision"] for name, workload in two.values["workloads"].items()}
    assert revisions == {"billing": "default", "ledger": "canary"}


def test_a_canarys_chart_has_the_main_ones_values_with_its_own_over_them(two: Run) -> None:
    values = two["istio-istiod-canary"].inputs["values"]
    # The main one's tag is of another version.
    assert (values["global"]["hub"], values["global"]["tag"]) == ("lab.local/istio", "1.32.0")
    assert two["istio-istiod"].inputs["values"]["global"]["tag"] == "dev"
    assert two["revision-tags-prod"].dependency_names >= {"istio-istiod"}


def test_without_a_gateway_vms_reach_the_service_of_their_istiod(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_revisions(monkeypatch)
    routes = [{"to": "10.96.0.0/16", "via": "10.77.0.10"}]
    monkeypatch.setitem(STACK, "eastWestGateway", {"service": "none"})
    monkeypatch.setitem(STACK, "hosts", {**STACK["hosts"], "routes": routes})
    ips = {"istiod-canary": "10.96.8.8", "istiod": "10.96.7.7"}
    answers = {f"{SERVICES}/{name}": {"spec": {"clusterIP": ip}} for name, ip in ips.items()}
    done = run_program(answers=answers)
    assert f"\nhosts: 10.96.8.8 {CANARY}\n" in done["ledger-1-configure"].inputs["stdin"]
    assert "\nhosts: 10.96.7.7 istiod.istio-system.svc\n" in done["billing-1-configure"].inputs["stdin"]


def test_an_ingress_gateway_leads_to_the_stacks_services(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host: dict[str, Any] = {"to": "billing.vm-apps.svc.cluster.local", "tls": {"secret": "shop"}}
    monkeypatch.setitem(STACK, "ingressGateway", {"enabled": True, "hosts": {"shop.example.com": host}})
    done = run_program(answers={f"{SERVICES}/istio-ingressgateway": points(ip="10.77.0.201")})
    assert done.values["mesh"]["gateways"] == {"eastWest": "10.77.0.200", "ingress": "10.77.0.201"}
    (route,) = done["ingress-shop.example.com-routes"].inputs["spec"]["http"]
    assert route["route"] == [{"destination": {"host": host["to"], "port": {"number": 80}}}]
    assert "ingress-namespace" not in done.names
    assert {"istio-base", "istio-istiod"} <= done["ingress-chart"].dependency_names


def test_a_services_own_rules_hold_at_the_ingress_gateway(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = "billing.vm-apps.svc.cluster.local"
    routes = [{"subset": "v1", "weight": 90}, {"subset": "v2", "weight": 10}]
    traffic = {"subsets": {"v1": {"version": "v1"}, "v2": {"version": "v2"}}, "routes": routes, "timeout": "2s"}
    billing = STACK["workloads"]["billing"]
    vms = {
        name: {**vm, "labels": {"version": f"v{number}"}} for number, (name, vm) in enumerate(billing["vms"].items(), 1)
    }
    monkeypatch.setitem(STACK, "workloads", {**STACK["workloads"], "billing": {**billing, "vms": vms}})
    monkeypatch.setitem(STACK, "traffic", {host: traffic})
    monkeypatch.setitem(STACK, "ingressGateway", {"enabled": True, "hosts": {"shop.example.com": {"to": host}}})
    done = run_program(answers={f"{SERVICES}/istio-ingressgateway": points(ip="10.77.0.201")})
    (rule,) = done["ingress-shop.example.com-routes"].inputs["spec"]["http"]
    assert rule["timeout"] == "2s"
    assert [(route["destination"]["subset"], route["weight"]) for route in rule["route"]] == [("v1", 90), ("v2", 10)]
    assert {route["destination"]["port"]["number"] for route in rule["route"]} == {80}
