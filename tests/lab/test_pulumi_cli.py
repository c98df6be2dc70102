"""The same program on the Pulumi CLI: its main path, its worst moments, its plans against the embedded engine's."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
from cli_stack import CliStack
from stack import COMMITTED, PROJECT, Config, Kubectl, Stack, changes, committed_config

from lab.runtime import Lab
from lab.spec import VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.pulumi, pytest.mark.timeout(1200)]

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""What the CLI stores as an output that it does not know."""

Plan = Mapping[str, Any]

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
    "environment of istiod": lambda config: config["istio"]["values"].update(env={"PILOT_ENABLE_ALPN_FILTER": "true"}),
    "mesh config": lambda config: config["istio"]["values"]["meshConfig"].update(accessLogFile="/dev/null"),
    "workload removed": lambda config: [config["workloads"].pop("billing"), *map(config.pop, AROUND)],
    "weight": lambda config: weigh(config, 50),
    "traffic rules": other_rules,
    "hosts outside": lambda config: config["services"].update(other=OTHER, legacy={**LEGACY, "ports": {"http": 81}}),
    "ingress": lambda config: config["ingressGateway"].update(
        ports={"http": 8080}, hosts={"shop.example.com": {"to": HOST}, "*.example.com": {"to": HOST}}
    ),
    "access": other_access,
    "mesh around VMs removed": lambda config: [*map(config.pop, AROUND)],
}
LEGACY = AROUND["services"]["legacy"]
OTHER = {**LEGACY, "hosts": ["other.example.com"]}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEGkbW4cDqzJ5WVcmNDS3s7DLLkfwhBcqhEtgc6HlIwF"


def plans(stack: Stack) -> dict[str, Plan]:
    """What an engine would do about each edit."""
    found = {}
    for name, edit in EDITS.items():
        stack.config = base_config()
        edit(stack.config)
        found[name] = stack.preview()
    stack.config = base_config()
    return found


@dataclass(frozen=True)
class Both:
    """The dev stack on the CLI, and what either engine said of it."""

    cli: CliStack
    embedded_plans: Mapping[str, Plan]
    cli_plans: Mapping[str, Plan]
    embedded_outputs: Mapping[str, Any]


@pytest.fixture(scope="module")
def both(dev_stack: Stack, lab_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Hand the stack from the embedded engine to the CLI for this module; one engine manages it at a time."""
    cli = CliStack(tmp_path_factory.mktemp("cli") / "Pulumi.dev.yaml", lab_environment)
    dev_stack.config, cli.config = base_config(), base_config()
    dev_stack.up()
    outputs, embedded_plans = dev_stack.outputs(), plans(dev_stack)
    try:
        destroyed = dev_stack.run("destroy")
        assert destroyed.returncode == 0, destroyed.stdout + destroyed.stderr
        fresh = {"fresh": dev_stack.preview()}, {"fresh": cli.preview()}
        cli.up()
        yield Both(cli, embedded_plans | fresh[0], plans(cli) | fresh[1], outputs)
    finally:
        cli.config = base_config()
        cli.destroy()
        dev_stack.config = committed_config()
        dev_stack.up()


def steps(plan: Plan) -> dict[str, dict[str, Any]]:
    """A plan's steps by URN and operation, with each changed property and how it changes.

    Left out is what lab/README.md lists as different between the engines.
    """
    found: dict[str, dict[str, Any]] = {}
    for step in plan["steps"]:
        kind, name = step["urn"].split("::")[-2:]
        chart_itself = kind.endswith("kubernetes:helm.sh/v4:Chart") and step["op"] == "update"
        physical = step["op"] in ("create-replacement", "delete-replaced")
        if step["op"] != "same" and not (physical or chart_itself or name.startswith("default_")):
            found[f"{step['op']} {step['urn']}"] = {
                one_spelling(path): diff["kind"] for path, diff in (step.get("detailedDiff") or {}).items()
            }
    return found


def one_spelling(path: str) -> str:
    """A property path with plain names, and of a connection, which is secret as a whole, no more than that."""
    plain = re.sub(r'\["([^"]*)"\]', r".\1", path)
    return "connection" if plain.startswith("connection.") else plain


def without_time(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs without what is another one each time a stack is brought up."""
    vms = {
        name: {key: value for key, value in vm.items() if key not in ("since", "certificate")}
        for name, vm in outputs["registration"]["vms"].items()
    }
    mesh = {key: value for key, value in outputs["mesh"].items() if key != "rootCertificateSha256"}
    return {**outputs, "mesh": mesh, "registration": {**outputs["registration"], "vms": vms}}


def test_the_main_path(both: Both) -> None:
    committed = COMMITTED.read_bytes()
    assert both.cli.states() == {"billing-1": "healthy", "billing-2": "healthy"}
    assert both.cli.live() == {"billing-1": "healthy", "billing-2": "healthy"}
    outputs = both.cli.outputs()
    assert without_time(outputs) == without_time(both.embedded_outputs)
    assert "unchanged" in both.cli.up()
    assert both.cli.outputs() == outputs
    assert COMMITTED.read_bytes() == committed


@pytest.mark.parametrize("edit", ["fresh", *EDITS])
def test_both_engines_plan_the_same_steps_for_the_same_properties(both: Both, edit: str) -> None:
    assert steps(both.embedded_plans[edit]) == steps(both.cli_plans[edit])


def test_a_changed_weight_is_one_update_and_done(both: Both, kubectl: Kubectl) -> None:
    cli, rules = both.cli, f"{HOST}-virtual-service"
    weigh(cli.config, 50)
    assert changes(cli.preview()) == {rules: "update"}
    cli.up()
    weights = "jsonpath={.spec.http[0].route[*].weight}"
    assert kubectl("get", "-n", "vm-apps", "virtualservice", HOST, "-o", weights) == "50 50"
    assert changes(cli.preview()) == {}
    cli.config = base_config()
    cli.up()


def test_an_unreachable_vm_takes_nothing_from_the_others_outputs(both: Both) -> None:
    cli = both.cli
    another_vm(cli.config)
    billing(cli.config)["labels"]["version"] = "v9"
    done = cli.run("up")
    assert done.returncode != 0
    assert "billing-9-configure" in done.stdout + done.stderr
    outputs = cli.outputs()
    assert cli.states() == {"billing-1": "healthy", "billing-2": "healthy", "billing-9": "unreachable"}
    assert outputs["registration"]["summary"] == {"healthy": 2, "unreachable": 1}
    assert all(outputs["registration"]["vms"][vm]["certificate"]["serial"] for vm in ("billing-1", "billing-2"))
    assert UNKNOWN not in str(outputs)
    cli.config = base_config()
    cli.up()
    assert changes(cli.preview()) == {}


def test_what_somebody_changed_on_a_vm_is_seen_and_put_back(both: Both, lab: Lab) -> None:
    cli = both.cli
    lab.vm_exec("billing-1", ["sed", "-i", "s/^  meshId: .*/  meshId: elsewhere/", "/etc/istio/config/mesh"])
    plan = cli.preview()
    assert changes(plan) == dict.fromkeys([f"billing-1-{step}" for step in ("configure", "enrol", "confirm")], "update")
    (step,) = [step for step in plan["steps"] if step["urn"].endswith("::billing-1-configure")]
    assert "/etc/istio/config/mesh:3 +   meshId: elsewhere" in step["newState"]["inputs"]["create"]
    cli.up()
    assert cli.states() == {"billing-1": "healthy", "billing-2": "healthy"}
    assert changes(cli.preview()) == {}


def test_a_token_is_renewed_and_vms_that_serve_change_in_turn(both: Both) -> None:
    cli = both.cli
    cli.config["renew"] = ["billing-1"]
    billing(cli.config)["labels"]["version"] = "v2"
    cli.up()
    assert cli.states() == {"billing-1": "healthy", "billing-2": "healthy"}
    assert changes(cli.preview()) == {}
    cli.config = base_config()
    cli.up()
    assert changes(cli.preview()) == {}


def test_a_dead_vm_leaves_where_that_is_allowed(both: Both, lab: Lab, kubectl: Kubectl) -> None:
    cli, vm = both.cli, VmSpec(name="cli-1", address="10.77.0.64")
    lab.add_vm(vm)
    try:
        billing(cli.config)["vms"][vm.name] = {"address": vm.address, "removeUnreachable": True}
        cli.up()
        assert cli.states()[vm.name] == "healthy"
        lab.vm_power_off(vm.name)
        cli.config = base_config()
        assert f"VM {vm.name} is unreachable and was given up" in cli.up()
        assert vm.address not in kubectl("get", "workloadentries", "-n", "vm-apps", "-o", "yaml")
        assert changes(cli.preview()) == {}
    finally:
        lab.remove_vm(vm.name)


def test_a_killed_run_is_continued_by_the_next(both: Both) -> None:
    cli = both.cli
    cli.destroy()
    for seconds in (9.0, 5.0, 14.0):
        with cli.started("up") as run, pytest.raises(subprocess.TimeoutExpired):
            run.communicate(timeout=seconds)
    cli.up()
    assert cli.states() == {"billing-1": "healthy", "billing-2": "healthy"}
    assert changes(cli.preview()) == {}
