"""The whole program with traffic rules, as docs/traffic.md gives them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_program import PROJECT, STACK, project, run_program

__all__ = ["project"]

HOST = "billing.vm-apps.svc.cluster.local"


@pytest.fixture
def documented(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The example of the documentation, with VMs for its two versions."""
    text = re.findall(r"```yaml\n(.*?)```", (PROJECT / "docs/traffic.md").read_text(), re.DOTALL)[0]
    traffic: dict[str, Any] = yaml.safe_load(text)["istio-vm-mesh:traffic"]
    billing = STACK["workloads"]["billing"]
    vms = {name: {**vm, "labels": {"version": f"v{name[-1]}"}} for name, vm in billing["vms"].items()}
    monkeypatch.setitem(STACK, "traffic", traffic)
    monkeypatch.setitem(STACK, "workloads", {**STACK["workloads"], "billing": {**billing, "vms": vms}})
    return traffic


def test_the_documented_rules_become_two_objects(documented: dict[str, Any], project: Path) -> None:
    done = run_program()
    assert list(documented) == [HOST]
    rule, service = (done[f"{HOST}-{role}"] for role in ("destination-rule", "virtual-service"))
    assert [subset["name"] for subset in rule.inputs["spec"]["subsets"]] == ["v1", "v2"]
    assert [to["weight"] for to in service.inputs["spec"]["http"][-1]["route"]] == [90, 10]
    assert {"istio-base", "istio-istiod", "vm-apps-namespace"} <= rule.dependency_names
    assert {f"{HOST}-destination-rule"} | rule.dependency_names == service.dependency_names
    assert {rule.inputs["metadata"]["namespace"], service.inputs["metadata"]["namespace"]} == {"vm-apps"}


def test_a_host_of_the_cluster_needs_no_namespace_of_the_stack(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    host = "hello.shop.svc.cluster.local"
    monkeypatch.setitem(STACK, "traffic", {host: {"timeout": "2s"}})
    done = run_program()
    assert done[f"{host}-virtual-service"].inputs["metadata"]["namespace"] == "shop"
    assert f"{host}-destination-rule" not in done.names
