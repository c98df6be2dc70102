"""A VM's WorkloadEntry: istiod makes it when the VM connects, and what it says then it says until it goes.

So a changed VM registers anew. Its entry is deleted before the sidecar restarts, which takes the VM out of all
endpoints; afterwards the new entry is waited for, and what it says of the VM's health.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.kubectl import ClusterAccess, delete_entry, kubectl
from components.workload import group_of_vm, registration_spec
from registration.credentials import ENTRY, VM_LABEL
from registration.ladder import CONNECTED_AT, entry_name
from registration.waves import CONFIGURATION, WENT_BACK

FORGOTTEN_SECONDS = 2
"""How long after an entry's end the mesh may still send requests to its VM: istiod gathers changes for 0.1 s, and tells
the proxies then (`PILOT_DEBOUNCE_AFTER`)."""
ENTRIES = "workloadentries.networking.istio.io"


@dataclass(frozen=True, kw_only=True)
class EntryArgs:
    """Whose entry it is."""

    access: ClusterAccess
    vm: str
    address: str
    group: Mapping[str, Any]
    """Manifest of the WorkloadGroup."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels over the group's."""
    healthy_within: int = 60
    """How many seconds the VM may take to be healthy again, once it has changed."""

    @property
    def name(self) -> str:
        """The entry's name."""
        return entry_name(self.group["metadata"]["name"], self.address, self.group["spec"]["template"]["network"])

    @property
    def namespace(self) -> str:
        """The entry's namespace."""
        return str(self.group["metadata"]["namespace"])


def entry_commands(args: EntryArgs) -> dict[str, Any]:
    """Inputs of the command that stands for the entry, but for `create`.

    Its standard input is what an entry takes from its group only once; it shows in a plan what will be registered.
    """
    spec = registration_spec(group_of_vm(args.group, args.labels))
    return {
        "delete": _delete(args),
        "stdin": json.dumps(spec, indent=1, sort_keys=True),
        "triggers": [f"{args.namespace}/{args.name}"],
    }


def leave(args: EntryArgs, configuration: str) -> str:
    """The command that takes the VM out of the mesh, unless it has registered with this configuration already."""
    delete = kubectl(
        args.access,
        "delete",
        ENTRIES,
        f"--namespace={args.namespace}",
        f"--field-selector=metadata.name={args.name}",
        f"--selector={CONFIGURATION}!={configuration}",
        "--wait=false",
        "--output=name",
    )
    return f'gone=$({delete}) || exit 1; [ -z "$gone" ] || sleep {FORGOTTEN_SECONDS}'


def withdraw(args: EntryArgs) -> str:
    """The command that takes a VM that is to leave out of the mesh, and waits until nobody sends it requests."""
    return _delete(args, f" && sleep {FORGOTTEN_SECONDS}")


def come_back(args: EntryArgs, configuration: str) -> str:
    """The command that waits until the VM is in the mesh again, with this configuration.

    It prints why it is not, and then lets the VM's group remember it, so that the next run tries again.
    """
    plain, _, attempts = configuration.partition(".")
    has_probe = bool(args.group["spec"].get("probe"))
    fields = [
        f"{{.metadata.labels.{CONFIGURATION.replace('.', chr(92) + '.')}}}",
        '{.status.conditions[?(@.type=="Healthy")].status}' if has_probe else "True",
        f"{{.metadata.annotations.{CONNECTED_AT.replace('.', chr(92) + '.')}}}",
        '{.status.conditions[?(@.type=="Healthy")].message}',
    ]
    get = kubectl(
        args.access,
        "get",
        ENTRIES,
        args.name,
        f"--namespace={args.namespace}",
        "--ignore-not-found",
        f"--output=jsonpath={'/'.join(fields)}",
    )
    remember = kubectl(
        args.access,
        "annotate",
        "workloadgroups.networking.istio.io",
        args.group["metadata"]["name"],
        f"--namespace={args.namespace}",
        "--overwrite",
        f"{WENT_BACK}/{args.vm}={plain}.{int(attempts or 0) + 1}",
    )
    mark = shlex.quote(configuration)
    return "\n".join(
        [
            f"end=$(($(date +%s) + {args.healthy_within}))",
            "while :; do",
            f"  seen=$({get}) || exit 1",
            f"  case $seen in {mark}/True/[0-9]*) exit 0 ;; esac",
            '  [ "$(date +%s)" -lt "$end" ] || break',
            "  sleep 1",
            "done",
            f"{remember} >/dev/null || exit 1",
            "case $seen in",
            f"  '') echo 'it has no WorkloadEntry after {args.healthy_within} s' ;;",
            f"  {mark}/True//* | {mark}/False//*) echo 'its sidecar has lost istiod again' ;;",
            f"  {mark}//*) echo 'its sidecar has not told whether the application is healthy' ;;",
            f'  {mark}/*) echo "it is unhealthy after {args.healthy_within} s: ${{seen#*/*/*/}}" ;;',
            "  *) echo 'it is registered with another configuration' ;;",
            "esac",
        ]
    )


def _delete(args: EntryArgs, then: str = "") -> str:
    """The command that deletes the entry, and then does the rest, unless another VM of the stack has it by now."""
    same = f'@.metadata.annotations.{ENTRY.replace(".", chr(92) + ".")}=="{args.name}"'
    heirs = kubectl(
        args.access,
        "get",
        "secrets",
        f"--namespace={args.namespace}",
        f"--selector={VM_LABEL},{VM_LABEL}!={args.vm}",
        f"--output=jsonpath={{.items[?({same})].metadata.labels.{VM_LABEL}}}",
    )
    delete = delete_entry(args.access, name=args.name, namespace=args.namespace)
    return "\n".join(
        [
            f"heirs=$({heirs}) || exit 1",
            f'if [ -z "$heirs" ]; then {delete}{then}; else echo "left alone: it is $heirs by now"; fi',
        ]
    )
