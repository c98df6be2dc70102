"""Keeps a workload's name from being registered at addresses that the stack does not declare.

istiod checks who registers (`ISTIO_WORKLOAD_ENTRY_VALIDATE_IDENTITY`: namespace and service account of the token or
certificate must be the group's), and takes the address from the VM's own word: https://github.com/istio/istio/issues/45329.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from registration.ladder import AUTO_GROUP


@dataclass(frozen=True, kw_only=True)
class RegistrationGuardArgs:
    """Which addresses a workload may have."""

    namespace: str
    group: str
    """Name of the WorkloadGroup."""
    addresses: Sequence[str]
    """Of the VMs that register themselves."""
    after: Sequence[pulumi.Resource] = ()
    """What must be there first."""


def guard_name(args: RegistrationGuardArgs) -> str:
    """The policy's name, unique in the cluster: dots are in neither a namespace nor a workload."""
    return f"{args.group}.{args.namespace}.istio-vm-mesh"


def policy_spec(args: RegistrationGuardArgs) -> dict[str, Any]:
    """Spec of the policy.

    It judges an entry that says it is the group's when it is made, and when its address or group changes: istiod must
    be able to mark the entry of a VM that is on its way out.
    """
    mark, group = json.dumps(AUTO_GROUP), json.dumps(args.group)
    declared = ", ".join(json.dumps(address) for address in sorted(args.addresses))

    def of_group(entry: str) -> str:
        annotations = f"{entry}.metadata.annotations"
        return f"has({annotations}) && {mark} in {annotations} && {annotations}[{mark}] == {group}"

    def address(entry: str) -> str:
        return f"(has({entry}.spec.address) ? {entry}.spec.address : '')"

    settled = f"oldObject != null && {of_group('oldObject')} && {address('oldObject')} == {address('object')}"
    return {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "resourceRules": [
                {
                    "apiGroups": ["networking.istio.io"],
                    "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["workloadentries"],
                }
            ]
        },
        "matchConditions": [
            {"name": "registers-in-the-group", "expression": of_group("object")},
            {"name": "is-new-there", "expression": f"!({settled})"},
        ],
        "validations": [
            {
                "expression": f"{address('object')} in [{declared}]",
                "messageExpression": f"'no VM of workload {args.group} has the address ' + {address('object')}",
                "reason": "Forbidden",
            }
        ],
    }


def binding_spec(args: RegistrationGuardArgs) -> dict[str, Any]:
    """Spec of what puts the policy into force, in the workload's namespace alone."""
    return {
        "policyName": guard_name(args),
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": args.namespace}}},
    }


class RegistrationGuard(pulumi.ComponentResource):
    """A ValidatingAdmissionPolicy and its binding, for one workload.

    Creates both. A changed name or namespace of the workload replaces them.

    Outputs: none. Depend on `ready` before a VM registers.
    """

    ready: tuple[pulumi.Resource, ...]
    """The policy and its binding."""

    def __init__(self, name: str, args: RegistrationGuardArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:RegistrationGuard", name, None, opts)
        policy = kubernetes.admissionregistration.v1.ValidatingAdmissionPolicy(
            f"{name}-policy",
            metadata={"name": guard_name(args)},
            spec=policy_spec(args),
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(args.after)),
        )
        binding = kubernetes.admissionregistration.v1.ValidatingAdmissionPolicyBinding(
            f"{name}-binding",
            metadata={"name": guard_name(args)},
            spec=binding_spec(args),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[policy]),
        )
        self.ready = (policy, binding)
        self.register_outputs({})
