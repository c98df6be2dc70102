"""Keeps VMs from registering as something else than the stack declares.

istiod checks who registers (`ISTIO_WORKLOAD_ENTRY_VALIDATE_IDENTITY`: namespace and service account of the token or
certificate must be the group's). It takes the address, the labels, the network and the locality from the VM's own word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from components.common import ISTIO_API
from components.kubernetes_object import kubernetes_object
from components.values import ISTIO_NAMESPACE
from hosts.registered import RegisteredEntry
from registration.ladder import AUTO_GROUP
from registration.waves import CONFIGURATION

DECLARED = "declared"
"""Prefix of the keys that say how the stack declares the VM at an address."""
CONFIRMED = "confirmed"
"""Prefix of the keys that say the same, as it was when all VMs of the workload were confirmed last."""
ANNOTATION_BYTES = 256 * 1024
"""How much an object's annotations may hold (TotalAnnotationSizeLimitB in k8s.io/apimachinery
pkg/api/validation/objectmeta.go)."""
_ENTRY = "entry"
_OPTIONAL = "?"
"""Begins a line that a VM may leave out."""
_ANY_LOCALITY = "locality=*"
_NOT_MISSING = f"(line in variables.lines || line.startsWith('{_OPTIONAL}') || line == '{_ANY_LOCALITY}')"
"""A condition: what an entry knows in a line is said by the VM, or need not be."""


@dataclass(frozen=True, kw_only=True)
class RegistrationGuardArgs:
    """What a workload's VMs may register as."""

    namespace: str
    group: str
    """Name of the WorkloadGroup."""
    entries: Mapping[str, RegisteredEntry]
    """Of the VMs that register themselves, by address."""
    after: Sequence[pulumi.Resource] = ()
    """What must be there first."""


def guard_name(args: RegistrationGuardArgs) -> str:
    """The policy's name, unique in the cluster: dots are in neither a namespace nor a workload."""
    return f"{args.group}.{args.namespace}.istio-vm-mesh"


def entry_lines(entry: RegisteredEntry) -> list[str]:
    """One line for each thing that an entry says; the policy makes the same lines of an entry that it judges."""
    return [
        *(f"label {key}={value}" for key, value in sorted(entry.labels.items()) if key != CONFIGURATION),
        *(f"{_OPTIONAL}label {key}={value}" for key, value in sorted(entry.optional_labels.items())),
        f"network={entry.network}",
        f"serviceAccount={entry.service_account}",
        _ANY_LOCALITY if entry.locality is None else f"locality={entry.locality}",
    ]


def guard_data(args: RegistrationGuardArgs, role: str) -> dict[str, str]:
    """What the policy knows: by address the name of an entry, by that name the entry's lines.

    VMs that register with the same labels share one.
    """
    data = {}
    for address, entry in sorted(args.entries.items()):
        lines = "\n".join(entry_lines(entry))
        name = hashlib.sha256(lines.encode()).hexdigest()[:16]
        # As istiod does for the entry's name.
        data[f"{role}.{address.replace(':', '-')}"] = name
        data[f"{_ENTRY}.{name}"] = lines
    return data


def fits(args: RegistrationGuardArgs) -> bool:
    """Whether one object can hold what the policy has to know while all of it changes: the old beside the new."""
    size = sum(len(key.encode()) + len(value.encode()) for key, value in guard_data(args, CONFIRMED).items())
    return 2 * size <= ANNOTATION_BYTES


def policy_spec(args: RegistrationGuardArgs) -> dict[str, Any]:
    """Spec of the policy, the same for any number of VMs.

    It judges an entry that says it is the group's when it is made, and when what it says of the VM changes: istiod must
    be able to mark the entry of a VM that is on its way out, or about to change.
    """
    of_group = f"metadata.?annotations[?{json.dumps(AUTO_GROUP)}].orValue('') == {json.dumps(args.group)}"
    unchanged = " && ".join(
        f"object.spec.?{name} == oldObject.spec.?{name}"
        for name in ("address", "labels", "network", "serviceAccount", "locality")
    )
    settled = f"oldObject.{of_group} && {unchanged}"
    label = f"variables.labels.filter(key, key != '{CONFIGURATION}').map(key, 'label ' + key + '=' + "
    fields = ", ".join(
        f"'{name}=' + object.spec.?{name}.orValue('')" for name in ("network", "serviceAccount", "locality")
    )
    keys = ", ".join(f"'{role}.' + variables.address.replace(':', '-')" for role in (DECLARED, CONFIRMED))
    declared = "variables.entries[0]"
    variables = {
        "known": "params.metadata.?annotations.orValue({})",
        "address": "object.spec.?address.orValue('')",
        "labels": "has(object.spec.labels) ? object.spec.labels : {}",
        "lines": f"{label}variables.labels[key]) + [{fields}]",
        "entries": (
            f"[{keys}].filter(key, key in variables.known)"
            f".map(key, variables.known['{_ENTRY}.' + variables.known[key]].split('\\n'))"
        ),
        "foreign": f"variables.lines.filter(line, !{_admitted_by(declared)})",
        "missing": f"{declared}.filter(line, !{_NOT_MISSING})",
    }
    return {
        "failurePolicy": "Fail",
        # Not a ConfigMap: of kinds of its own, the API server reads no change any more once the last policy with such
        # parameters was deleted (k8s.io/apiserver pkg/admission/plugin/policy/generic/policy_source.go).
        "paramKind": {"apiVersion": ISTIO_API, "kind": "WorkloadGroup"},
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
            {"name": "registers-in-the-group", "expression": f"object.{of_group}"},
            {"name": "says-something-new", "expression": f"oldObject == null || !({settled})"},
        ],
        "variables": [{"name": name, "expression": expression} for name, expression in variables.items()],
        "validations": [
            {
                "expression": "variables.entries.size() > 0",
                "messageExpression": f"'no VM of workload {args.group} has the address ' + variables.address",
                "reason": "Forbidden",
            },
            {
                "expression": (
                    "variables.entries.size() == 0 || variables.entries.exists(entry, "
                    # istiod adds the group's labels to those of a VM that has not changed yet.
                    f"variables.lines.all(line, {_admitted_by('entry')} || line in {declared}) && "
                    f"entry.all(line, {_NOT_MISSING}))"
                ),
                "messageExpression": (
                    f"'the VM of workload {args.group} at ' + variables.address + ' registers with ' + "
                    f"{_listed('variables.foreign')} + ', the stack declares it with ' + {_listed('variables.missing')}"
                ),
                "reason": "Forbidden",
            },
        ],
    }


def _admitted_by(entry: str) -> str:
    """A condition: what a VM says in a line is among what an entry knows."""
    any_locality = f"line.startsWith('locality=') && '{_ANY_LOCALITY}' in {entry}"
    return f"(line in {entry} || '{_OPTIONAL}' + line in {entry} || {any_locality})"


def _listed(lines: str) -> str:
    return f"({lines}.size() > 0 ? {lines}.join(', ') : 'nothing else')"


def binding_spec(args: RegistrationGuardArgs) -> dict[str, Any]:
    """Spec of what puts the policy into force, in the workload's namespace alone."""
    return {
        "policyName": guard_name(args),
        "paramRef": {"name": guard_name(args), "namespace": ISTIO_NAMESPACE, "parameterNotFoundAction": "Deny"},
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": args.namespace}}},
    }


class RegistrationGuard(pulumi.ComponentResource):
    """A ValidatingAdmissionPolicy, its binding, and a WorkloadGroup in istiod's namespace that says what they go by.

    Creates all three; no VM registers with that group. A changed name or namespace of the workload replaces them.

    Outputs: none. Depend on `ready` before a VM registers.
    """

    ready: tuple[pulumi.Resource, ...]
    """All three."""

    def __init__(self, name: str, args: RegistrationGuardArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:RegistrationGuard", name, None, opts)
        metadata: dict[str, Any] = {"name": guard_name(args), "namespace": ISTIO_NAMESPACE}
        if args.entries:  # who applies an empty mapping owns it as a whole, and others' keys conflict with that
            metadata["annotations"] = guard_data(args, DECLARED)
        entries = kubernetes_object(
            f"{name}-entries",
            {"apiVersion": ISTIO_API, "kind": "WorkloadGroup", "metadata": metadata, "spec": {"template": {}}},
            pulumi.ResourceOptions(parent=self, depends_on=list(args.after)),
        )
        policy = kubernetes_object(
            f"{name}-policy",
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingAdmissionPolicy",
                "metadata": {"name": guard_name(args)},
                "spec": policy_spec(args),
            },
            pulumi.ResourceOptions(parent=self, depends_on=[entries]),
        )
        binding = kubernetes_object(
            f"{name}-binding",
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingAdmissionPolicyBinding",
                "metadata": {"name": guard_name(args)},
                "spec": binding_spec(args),
            },
            pulumi.ResourceOptions(parent=self, depends_on=[policy]),
        )
        self.ready = (entries, policy, binding)
        self.register_outputs({})


class ConfirmedEntries(pulumi.ComponentResource):
    """What the guard admits besides: how VMs were declared when all of their workload were confirmed last.

    A VM that has not changed yet, or has taken a change back, registers like that. It is written after the VMs, and not
    where one of them fails.

    Creates a patch of that object. A changed name or namespace of the workload replaces it.

    Outputs: none.
    """

    def __init__(
        self,
        name: str,
        args: RegistrationGuardArgs,
        confirmed: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("istiovm:index:ConfirmedEntries", name, None, opts)
        # One name: what a run wrote that did not live to tell, the next one takes over.
        annotations = {"pulumi.com/patchFieldManager": "istio-vm-mesh-confirmed", **guard_data(args, CONFIRMED)}
        kubernetes_object(
            f"{name}-patch",
            {
                "apiVersion": ISTIO_API,
                "kind": "WorkloadGroup",
                "metadata": {"name": guard_name(args), "namespace": ISTIO_NAMESPACE, "annotations": annotations},
            },
            pulumi.ResourceOptions(parent=self, depends_on=list(confirmed)),
            patch=True,
        )
        self.register_outputs({})
