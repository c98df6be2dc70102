"""What the stack puts out under `registration`, and the evidence in it that only a VM's steps have. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from registration.ladder import DeclaredVm, Evidence, State, VmState, is_complete

CERTIFICATE_FIELDS = ("serial", "notAfter", "spiffe")
"""What an output may say of a certificate; anything else in the evidence stays there."""

AFTER_UP = "known after up"
"""Stands in a preview's plan where saying nothing would read as a certificate that is taken away."""


def evidence_of(steps: Mapping[str, str | None], *, preview: bool) -> Evidence:
    """What a VM's steps have shown.

    Args:
        steps: Resource name -> standard output, or None where the engine has no result. In the order in which they
            run; the last is `confirm`.
        preview: In a preview a missing result means "to be done", otherwise that the step failed or was left out.
    """
    missing = [name for name, output in steps.items() if output is None]
    confirm = list(steps.values())[-1] if steps and (preview or not missing) else None
    return Evidence(
        configured=confirm is not None,
        confirmed=None if confirm is None else _last_json_line(confirm),
        failed=missing[0] if missing and not preview else None,
        pending=preview and confirm is None,
    )


def report(
    vms: Sequence[DeclaredVm], evidence: Mapping[str, Evidence], states: Mapping[str, VmState]
) -> dict[str, Any]:
    """The output `registration`: it changes only when a VM's registration does.

    Args:
        vms: All that are declared.
        evidence: By VM name; a VM without an entry has shown nothing.
        states: By VM name.
    """
    count = Counter(str(states[vm.name].state) for vm in vms)
    return {
        "summary": {str(state): count[state] for state in State if count[state]},
        "vms": {vm.name: _vm_report(vm, states[vm.name], evidence.get(vm.name)) for vm in vms},
    }


def _vm_report(vm: DeclaredVm, state: VmState, evidence: Evidence | None) -> dict[str, Any]:
    result: dict[str, Any] = {
        "namespace": vm.namespace,
        "workload": vm.workload,
        "address": vm.address,
        "workloadEntry": vm.entry,
        "state": str(state.state),
        "complete": is_complete(state.state, vm.has_probe, static=vm.static),
        "since": state.since,
        "reason": state.reason,
        "hint": state.hint,
    }
    if vm.static:
        return {**result, "static": True}
    certificate = ((evidence.confirmed if evidence else None) or {}).get("certificate")
    if isinstance(certificate, Mapping):
        result["certificate"] = {key: certificate[key] for key in CERTIFICATE_FIELDS if certificate.get(key)}
    elif evidence and evidence.pending:
        result["certificate"] = AFTER_UP
    return result


def _last_json_line(text: str | None) -> dict[str, Any]:
    """The evidence in what `confirm` printed: its last line that is a JSON object; empty where there is none."""
    for line in reversed((text or "").splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            return found
    return {}
