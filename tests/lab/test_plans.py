"""What a preview says of an edit: each resource that changes, and how, and none besides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import pytest
from stack import PROJECT, Config, Kubectl, Stack, changes, committed_config

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""What the CLI stores as an output that it does not know."""
HOST = "billing.vm-apps.svc.cluster.local"
AROUND: Config = {
    "traffic": {
        HOST: {
            "subsets": {"v1": {"version": "v1"}, "v2": {"version": "v2"}},
            "podSubsets": ["v1", "v2"],
            "routes": [{"subset": "v1", "weight": 90}, {"subset": "v2", "weight": 10}],
            "timeout": "2s",
        }
    },
    "services": {
        "legacy": {
            "namespace": "vm-apps",
            "hosts": ["legacy.example.com"],
            "ports": {"http": 80},
            "selector": {"app": "billing"},
        }
    },
    "namespaces": {"shop": {"mutualTls": "STRICT", "access": [{"from": ["billing"]}]}},
    "ingressGateway": {"enabled": True, "hosts": {"shop.example.com": {"to": "legacy.example.com"}}},
}
"""What the dev stack says of the mesh around its VMs here."""
LEGACY = AROUND["services"]["legacy"]
OTHER = {**LEGACY, "hosts": ["other.example.com"]}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEGkbW4cDqzJ5WVcmNDS3s7DLLkfwhBcqhEtgc6HlIwF"


def base_config() -> Config:
    return committed_config() | deepcopy(AROUND)


def billing(config: Config) -> Config:
    workload: Config = config["workloads"]["billing"]
    return workload


def another_vm(config: Config) -> None:
    known_hosts = (PROJECT / ".lab/ssh/known_hosts").read_text().split()
    billing(config)["vms"]["billing-9"] = {"address": "10.77.0.99", "hostKey": " ".join(known_hosts[1:3])}


def weigh(config: Config, v1: int) -> None:
    first, second = config["traffic"][HOST]["routes"]
    first["weight"], second["weight"] = v1, 100 - v1


def other_rules(config: Config) -> None:
    rules = config["traffic"][HOST]
    rules["subsets"]["v2"]["tier"] = "new"
    rules.update(timeout="3s", retries={"attempts": 1}, loadBalancer={"simple": "ROUND_ROBIN"})


def other_access(config: Config) -> None:
    config["istio"]["mutualTls"] = "STRICT"
    config["namespaces"]["shop"]["access"][0]["methods"] = ["GET"]
    config["namespaces"]["store"] = {"injection": "disabled", "access": []}


EDITS: dict[str, Callable[[Config], Any]] = {
    "nothing": lambda config: None,
    "label": lambda config: billing(config)["labels"].update(version="v2"),
    "port": lambda config: billing(config)["ports"].update(admin=9090),
    "probe": lambda config: billing(config)["probe"]["httpGet"].update(path="/"),
    "VM removed": lambda config: billing(config)["vms"].pop("billing-2"),
    "VM added": another_vm,
    "VM address": lambda config: billing(config)["vms"]["billing-2"].update(address="10.77.0.23", hostKey=KEY),
    "VM label": lambda config: billing(config)["vms"]["billing-2"].update(labels={"version": "v2"}),
    "VM static": lambda config: billing(config)["vms"].update({"billing-2": {"address": "10.77.0.22", "static": True}}),
    "VM renewed": lambda config: config.update(renew=["billing-1"]),
    "VM may leave unreachable": lambda config: config["hosts"].update(removeUnreachable=True),
    "routes": lambda config: config["hosts"].update(routes=[{"to": "10.244.0.0/16", "via": "10.77.0.10"}]),
    "one at a time no more": lambda config: config["hosts"].update(rollout={"maxUnavailable": "50%"}),
    "mesh config": lambda config: config["istio"]["values"]["meshConfig"].update(accessLogFile="/dev/null"),
    "weight": lambda config: weigh(config, 50),
    "traffic rules": other_rules,
    "hosts outside": lambda config: config["services"].update(other=OTHER, legacy={**LEGACY, "ports": {"http": 81}}),
    "ingress": lambda config: config["ingressGateway"].update(
        ports={"http": 8080}, hosts={"shop.example.com": {"to": HOST}, "*.example.com": {"to": HOST}}
    ),
    "access": other_access,
}


STEPS = ("configure", "membership", "enrol", "confirm")
GUARD = dict.fromkeys(["billing-guard-entries", "billing-guard-confirmed-patch"], "update")
"""What knows each VM's labels and address."""


def of_vms(operation: str, *steps: str, vms: Sequence[str] = ("billing-1", "billing-2")) -> dict[str, str]:
    """The same for steps of VMs."""
    return {f"{vm}-{step}": operation for vm in vms for step in steps}


def whole(operation: str, vm: str) -> dict[str, str]:
    """The same for all of a VM."""
    return {vm: operation} | of_vms(operation, *STEPS, vms=[vm])


REGISTERS_ANEW = of_vms("update", "configure", "enrol", "confirm")
EXPECTED: dict[str, dict[str, str]] = {
    "nothing": {},
    "label": {"billing-group": "update"} | GUARD | REGISTERS_ANEW,
    "port": {"billing-group": "update"} | REGISTERS_ANEW,
    "probe": {"billing-group": "update"} | REGISTERS_ANEW,
    "VM removed": whole("delete", "billing-2") | GUARD,
    "VM added": whole("create", "billing-9") | GUARD,
    "VM address": of_vms("replace", *STEPS, vms=["billing-2"]) | GUARD,
    "VM label": of_vms("update", "configure", "enrol", "confirm", vms=["billing-2"]) | GUARD,
    "VM static": {"billing-2-static": "create"} | whole("delete", "billing-2") | GUARD,
    "VM renewed": of_vms("update", "membership", "enrol", "confirm", vms=["billing-1"]),
    "VM may leave unreachable": of_vms("update", "membership"),
    "routes": of_vms("update", "configure"),
    "one at a time no more": {},
    "mesh config": dict.fromkeys(["istio-istiod:istio-system/values", "istio-istiod:istio-system/istio"], "update"),
    "weight": {f"{HOST}-virtual-service": "update"},
    "traffic rules": dict.fromkeys([f"{HOST}-destination-rule", f"{HOST}-virtual-service"], "update"),
    "hosts outside": {"other": "create", "other-service-entry": "create"}
    | dict.fromkeys(["legacy-service-entry", "ingress-shop.example.com-routes"], "update"),
    "ingress": {"ingress-*.example.com-routes": "create"}
    | dict.fromkeys(["ingress-shop.example.com-routes", "ingress-gateway"], "update")
    | {"ingress-chart:istio-system/istio-ingressgateway": "update"},
    "access": {"shop-namespace-access": "update"}
    | dict.fromkeys(["istio-system-policies", "istio-system-mutual-tls"], "create")
    | dict.fromkeys(["store", "store-namespace", "store-policies", "store-namespace-access"], "create"),
}


@pytest.fixture(scope="module")
def around(dev_stack: Stack) -> Iterator[Stack]:
    """The dev stack with rules, a host outside, an ingress and access policies."""
    dev_stack.config = base_config()
    dev_stack.up()
    yield dev_stack
    dev_stack.config = committed_config()
    dev_stack.up()


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_changes_these_resources_and_none_besides(around: Stack, edit: str) -> None:
    around.config = base_config()
    EDITS[edit](around.config)
    assert changes(around.preview()) == EXPECTED[edit]


def test_a_changed_weight_is_one_update_and_done(around: Stack, kubectl: Kubectl) -> None:
    around.config = base_config()
    weigh(around.config, 50)
    around.up()
    weights = "jsonpath={.spec.http[0].route[*].weight}"
    assert kubectl("get", "-n", "vm-apps", "virtualservice", HOST, "-o", weights) == "50 50"
    assert changes(around.preview()) == {}


def test_an_unreachable_vm_takes_nothing_from_the_others_outputs(around: Stack) -> None:
    around.config = base_config()
    another_vm(around.config)
    billing(around.config)["labels"]["version"] = "v9"
    done = around.run("up")
    assert done.returncode != 0
    assert "billing-9-configure" in done.stdout + done.stderr
    outputs = around.outputs()
    assert around.states() == {"billing-1": "healthy", "billing-2": "healthy", "billing-9": "unreachable"}
    assert outputs["registration"]["summary"] == {"healthy": 2, "unreachable": 1}
    assert all(outputs["registration"]["vms"][vm]["certificate"]["serial"] for vm in ("billing-1", "billing-2"))
    assert UNKNOWN not in str(outputs)
