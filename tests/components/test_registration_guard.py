"""The guard's objects; what they admit is tested by the lab's API server."""

from typing import Any

import pulumi
from recording import Run, run

from components.registration_guard import RegistrationGuard, RegistrationGuardArgs, binding_spec, policy_spec
from components.workload import Workload, WorkloadArgs

ARGS = RegistrationGuardArgs(namespace="vm-apps", group="billing", addresses=["10.77.0.22", "10.77.0.21"])
NAME = "billing.vm-apps.istio-vm-mesh"


def test_the_policy_names_the_declared_addresses() -> None:
    spec = policy_spec(ARGS)
    (validation,) = spec["validations"]
    assert validation["expression"].endswith('in ["10.77.0.21", "10.77.0.22"]')
    (rule,) = spec["matchConstraints"]["resourceRules"]
    assert (rule["operations"], rule["resources"]) == (["CREATE", "UPDATE"], ["workloadentries"])
    assert spec["failurePolicy"] == "Fail"


def test_it_holds_in_the_workloads_namespace_only() -> None:
    assert binding_spec(ARGS) == {
        "policyName": NAME,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "vm-apps"}}},
    }


def test_the_policy_is_there_before_it_is_bound() -> None:
    def program() -> dict[str, Any]:
        RegistrationGuard("g", ARGS)
        return {}

    done = run(program)
    assert done.names == {"g", "g-policy", "g-binding"}
    assert done["g-binding"].dependency_names == {"g-policy"}
    assert {done[f"g-{part}"].inputs["metadata"]["name"] for part in ("policy", "binding")} == {NAME}


def workload(guarded: list[str] | None) -> Run:
    def program() -> dict[str, Any]:
        made = Workload(
            "billing",
            WorkloadArgs(
                namespace="vm-apps", service_account="billing", trust_domain="x", network="net1", guarded=guarded
            ),
        )
        return {"urns": pulumi.Output.all(*(part.urn for part in made.ready))}

    return run(program)


def test_vms_wait_for_it_where_it_is_on() -> None:
    done = workload([])
    assert [urn.rsplit("::", 1)[1] for urn in done.values["urns"]] == [
        "billing-group",
        "billing-guard-policy",
        "billing-guard-binding",
    ]
    assert done["billing-guard-policy"].inputs["spec"]["validations"][0]["expression"].endswith(" in []")
    assert "billing-guard" not in workload(None).names
