"""The whole program with other ways to istiod: its outputs and its VMs' files agree on where istiod is."""

from pathlib import Path
from typing import Any

import pytest
from test_program import GATEWAY, STACK, points, project, run_program

__all__ = ["project"]

ROUTES = [{"to": "10.96.0.0/16", "via": "10.77.0.10"}, {"to": "10.244.0.0/16", "via": "10.77.0.10"}]
NODE = {"metadata": {"name": "node1"}, "status": {"addresses": [{"address": "10.77.0.10", "type": "InternalIP"}]}}
NODE_PORT = {"spec": {"ports": [{"name": "tls-istiod", "nodePort": 31234}]}}
INSIDE = {"/api/v1/namespaces/istio-system/services/istiod": {"spec": {"clusterIP": "10.96.7.7"}}}
ISTIOD = "istiod.istio-system.svc"


@pytest.mark.parametrize(
    ("gateway", "hosts", "answers", "istiod", "gateways"),
    [
        (
            {"service": "none"},
            {"routes": ROUTES},
            INSIDE,
            {"host": ISTIOD, "address": "10.96.7.7", "port": 15012},
            {},
        ),
        (
            {"service": "none"},
            {"istiodAddress": "192.0.2.7"},
            {},
            {"host": ISTIOD, "address": "192.0.2.7", "port": 15012},
            {},
        ),
        (
            {"exposeIstiod": False},
            {"routes": ROUTES},
            INSIDE,
            {"host": ISTIOD, "address": "10.96.7.7", "port": 15012},
            {"eastWest": "10.77.0.200"},
        ),
        (
            {"service": "NodePort"},
            {},
            {"/api/v1/nodes": {"items": [NODE]}, GATEWAY: NODE_PORT},
            {"host": ISTIOD, "address": "10.77.0.10", "port": 31234},
            {"eastWest": "10.77.0.10"},
        ),
        (
            {"service": "NodePort", "address": "192.0.2.7", "nodePorts": {"istiod": 31012, "webhook": 31017}},
            {"istiodAddress": "192.0.2.8"},
            {},
            {"host": ISTIOD, "address": "192.0.2.8", "port": 31012},
            {"eastWest": "192.0.2.7"},
        ),
        (
            {},
            {"istiodAddress": "192.0.2.8"},
            {GATEWAY: points(hostname="no-such-name.example")},
            {"host": ISTIOD, "address": "192.0.2.8", "port": 15012},
            {"eastWest": "no-such-name.example"},
        ),
    ],
    ids=["none", "none with an address", "not exposed", "node ports", "chosen node ports", "a name with an address"],
)
def test_outputs_and_files_say_the_same(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    gateway: dict[str, Any],
    hosts: dict[str, Any],
    answers: dict[str, Any],
    istiod: dict[str, Any],
    gateways: dict[str, str],
) -> None:
    monkeypatch.setitem(STACK, "eastWestGateway", gateway)
    monkeypatch.setitem(STACK, "hosts", {**STACK["hosts"], **hosts})
    done = run_program(answers=answers)
    mesh = done.values["mesh"]
    assert (mesh["istiod"], mesh["gateways"]) == (istiod, gateways)
    assert ("east-west" in done.names) == bool(gateways)
    program = done["billing-1-configure"].inputs["stdin"]
    at = f"{istiod['host']}:{istiod['port']}"
    for line in (
        f"hosts: {istiod['address']} {istiod['host']}",
        f"mesh:   discoveryAddress: {at}",
        *([f"cluster.env: CA_ADDR='{at}'"] if istiod["port"] != 15012 else []),
        *(f"istio-vm-mesh-routes.service: # {r['to']} via {r['via']}" for r in hosts.get("routes", ())),
    ):
        assert f"\n{line}\n" in program, line


def test_a_vms_own_routes_replace_those_of_all(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STACK, "hosts", {**STACK["hosts"], "routes": ROUTES})
    vms = STACK["workloads"]["billing"]["vms"]
    monkeypatch.setitem(vms, "billing-1", {**vms["billing-1"], "routes": []})
    monkeypatch.setitem(vms, "billing-2", {**vms["billing-2"], "routes": [{"to": "10.96.0.0/16", "via": "10.77.0.9"}]})
    done = run_program()
    programs = {vm: done[f"{vm}-configure"].inputs["stdin"] for vm in ("billing-1", "billing-2", "ledger-1")}
    routers = {vm: "10.77.0.9" in text for vm, text in programs.items()}
    assert routers == {"billing-1": False, "billing-2": True, "ledger-1": False}
    assert {
        vm: "istio-vm-mesh-routes.service: # 10.96.0.0/16 via 10.77.0.10" in text for vm, text in programs.items()
    } == {
        "billing-1": False,
        "billing-2": False,
        "ledger-1": True,
    }


def test_the_first_preview_without_a_gateway_waits_for_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STACK, "eastWestGateway", {"service": "none"})
    monkeypatch.setitem(STACK, "hosts", {**STACK["hosts"], "routes": ROUTES})
    done = run_program(preview=True, there=())
    assert done.cluster.asked.count("/api/v1/namespaces/istio-system/services/istiod") == 1
    assert done.values["registration"]["summary"] == {"reachable": 3}
