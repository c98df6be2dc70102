"""The guard's objects; what they admit is tested by the lab's API server."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pulumi
from recording import Run, run

from components.registration_guard import (
    CONFIRMED,
    DECLARED,
    ConfirmedEntries,
    RegistrationGuard,
    RegistrationGuardArgs,
    binding_spec,
    entry_lines,
    guard_data,
    policy_spec,
)
from components.workload import Workload, WorkloadArgs
from hosts.registered import RegisteredEntry

NAME = "billing.vm-apps.istio-vm-mesh"


def entry(locality: str | None = "", **labels: str) -> RegisteredEntry:
    return RegisteredEntry(labels=labels, network="net1", service_account="pay", locality=locality)


def guard(entries: Mapping[str, RegisteredEntry]) -> RegistrationGuardArgs:
    return RegistrationGuardArgs(namespace="vm-apps", group="billing", entries=entries)


ARGS = guard({"10.77.0.22": entry(app="billing"), "10.77.0.21": entry(app="billing"), "fd00::1": entry(app="other")})


def test_a_line_for_each_thing_that_a_vm_may_say() -> None:
    marked = {"b": "2", "a": "1", "istio-vm-mesh/configuration": "0123"}
    assert entry_lines(entry(**marked)) == [
        "label a=1",
        "label b=2",
        "network=net1",
        "serviceAccount=pay",
        "locality=",
    ]
    optional = dataclasses.replace(entry(b="2"), optional_labels={"a": "1"})
    assert entry_lines(optional)[:2] == ["label b=2", "?label a=1"]
    assert entry_lines(entry(locality="eu/a"))[-1] == "locality=eu/a"
    assert entry_lines(entry(locality=None))[-1] == "locality=*"


def test_vms_that_register_alike_share_what_the_policy_knows() -> None:
    data = guard_data(ARGS, DECLARED)
    first, other = data["declared.10.77.0.21"], data["declared.fd00--1"]
    assert data == {
        "declared.10.77.0.21": first,
        "declared.10.77.0.22": first,
        "declared.fd00--1": other,
        f"entry.{first}": "label app=billing\nnetwork=net1\nserviceAccount=pay\nlocality=",
        f"entry.{other}": "label app=other\nnetwork=net1\nserviceAccount=pay\nlocality=",
    }
    confirmed = guard_data(ARGS, CONFIRMED)
    assert {key.replace("confirmed.", "declared."): value for key, value in confirmed.items()} == data


def test_the_policy_is_the_same_for_any_vms() -> None:
    spec = policy_spec(ARGS)
    assert policy_spec(guard({})) == spec
    (rule,) = spec["matchConstraints"]["resourceRules"]
    assert (rule["operations"], rule["resources"]) == (["CREATE", "UPDATE"], ["workloadentries"])
    assert spec["failurePolicy"] == "Fail"


def test_a_thousand_vms_with_labels_of_their_own_fit_into_a_config_map_twice() -> None:
    labels = {f"example.com/label-{number}": "x" * 20 for number in range(5)}
    vms = {f"10.77.{n // 250}.{n % 250}": entry(**labels, host=f"vm-{n}") for n in range(1000)}
    data = guard_data(guard(vms), DECLARED) | guard_data(guard(vms), CONFIRMED)
    assert len(json.dumps(data)) < 1 << 19
    assert all(len(key) <= 253 for key in data)


def test_it_holds_in_the_workloads_namespace_only() -> None:
    assert binding_spec(ARGS) == {
        "policyName": NAME,
        "paramRef": {"name": NAME, "namespace": "istio-system", "parameterNotFoundAction": "Deny"},
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "vm-apps"}}},
    }


def test_the_policy_is_there_before_it_is_bound_and_what_it_knows_before_the_policy() -> None:
    def program() -> dict[str, Any]:
        RegistrationGuard("g", ARGS)
        return {}

    done = run(program)
    assert done.names == {"g", "g-entries", "g-policy", "g-binding"}
    assert done["g-policy"].dependency_names == {"g-entries"}
    assert done["g-binding"].dependency_names == {"g-policy"}
    assert {done[f"g-{part}"].inputs["metadata"]["name"] for part in ("entries", "policy", "binding")} == {NAME}
    assert done["g-entries"].inputs["metadata"]["annotations"] == guard_data(ARGS, DECLARED)


def test_what_vms_were_is_forgotten_when_all_are_confirmed() -> None:
    def program() -> dict[str, Any]:
        vms = [pulumi.CustomResource("test:index:Leaf", name, {}) for name in ("vm-1", "vm-2")]
        ConfirmedEntries("c", ARGS, vms)
        return {}

    done = run(program)
    assert done.names == {"vm-1", "vm-2", "c", "c-patch"}
    assert done["c-patch"].type == "kubernetes:networking.istio.io/v1:WorkloadGroupPatch"
    assert done["c-patch"].dependency_names == {"vm-1", "vm-2"}
    assert done["c-patch"].inputs["metadata"]["name"] == NAME
    assert done["c-patch"].inputs["metadata"]["annotations"].items() >= guard_data(ARGS, CONFIRMED).items()


def workload(guarded: Mapping[str, RegisteredEntry] | None) -> Run:
    def program() -> dict[str, Any]:
        Workload(
            "billing",
            WorkloadArgs(
                namespace="vm-apps", service_account="billing", trust_domain="x", network="net1", guarded=guarded
            ),
        )
        return {}

    return run(program)


def test_vms_wait_for_it_where_it_is_on() -> None:
    done = workload({})
    guard = {"billing-guard-entries", "billing-guard-policy", "billing-guard-binding"}
    assert done["billing-group"].dependency_names == guard, "which VMs wait for"
    assert "annotations" not in done["billing-guard-entries"].inputs["metadata"], "nothing is said of VMs"
    assert "billing-guard" not in workload(None).names
