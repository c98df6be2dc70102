"""A VM's WorkloadEntry: istiod makes it when the VM connects, and what it says then it says until it goes.

So a changed VM registers anew. Its entry is deleted before the sidecar restarts, which takes the VM out of all
endpoints; afterwards the new entry is waited for, and what it says of the VM's health.
"""

from __future__ import annotations

import json
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
ANEW = "anew: it was registered with another configuration"
"""What the VM's program (`confirm.sh`) takes as the word to start its sidecar once more."""
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
    return "\n".join(
        [
            f"wanted={configuration}",
            f"gone=$({_delete_other(args)}) || exit 1",
            # Where nothing goes, kubectl says so in words.
            f"case $gone in */*) sleep {FORGOTTEN_SECONDS} ;; esac",
        ]
    )


def withdraw(args: EntryArgs) -> str:
    """The command that takes a VM that is to leave out of the mesh, and waits until nobody sends it requests."""
    return _delete(args, f" && sleep {FORGOTTEN_SECONDS}")


def come_back(args: EntryArgs, configuration: str, *, anew: bool = True) -> str:
    """The command that waits until the VM is in the mesh again, with this configuration.

    It prints why it is not, and then lets the VM's group remember it, so that the next run tries again.

    Args:
        args: Whose entry.
        configuration: As in `leave`.
        anew: What to do about a VM that has lost istiod between `leave` and its restart, and so has registered again as
            it was. istiod writes an entry only when a sidecar connects and there is none: so this one is deleted, and
            the VM is told to start its sidecar once more (`ANEW`); `returned` waits for it then. False: it is not back.
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
    )
    # Two of them differ, so that the VM sees which one it has followed.
    say = f'echo "{ANEW} at $(date -u +%Y-%m-%dT%H:%M:%SZ)"'
    other = f"{_delete_other(args)} >/dev/null && {say}; exit" if anew else "break"
    return "\n".join(
        [
            f"wanted={configuration} next={plain}.{int(attempts or 0) + 1}",
            f"end=$(($(date +%s) + {args.healthy_within}))",
            "while :; do",
            f"  seen=$({get}) || exit 1",
            f"  case $seen in $wanted/True/[0-9]*) exit 0 ;; '' | $wanted/*) ;; *) {other} ;; esac",
            '  [ "$(date +%s)" -lt "$end" ] || break',
            "  sleep 1",
            "done",
            f'{remember} "{WENT_BACK}/{args.vm}=$next" >/dev/null || exit 1',
            "case $seen in",
            f"  '') echo 'it has no WorkloadEntry after {args.healthy_within} s' ;;",
            "  $wanted/True//* | $wanted/False//*) echo 'its sidecar has lost istiod again' ;;",
            "  $wanted//*) echo 'its sidecar has not told whether the application is healthy' ;;",
            f'  $wanted/*) echo "it is unhealthy after {args.healthy_within} s: ${{seen#*/*/*/}}" ;;',
            "  *) echo 'it is registered with another configuration' ;;",
            "esac",
        ]
    )


def returned(args: EntryArgs, configuration: str) -> str:
    """The command that waits once more where `come_back`, whose output it takes, had the sidecar start again.

    It fails with the reason where the VM is not back: by then the VM has kept its new configuration.
    """
    return "\n".join(
        [
            '[ -n "$(cat)" ] || exit 0',
            f"look() {{\n{come_back(args, configuration, anew=False)}\n}}",
            "why=$(look) || exit 1",
            f'[ -z "$why" ] || {{ echo "VM {args.vm} is not back in the mesh: $why; run up again" >&2; exit 1; }}',
        ]
    )


def _delete_other(args: EntryArgs) -> str:
    """The command that deletes the entry unless its configuration is `$wanted`, and prints its name."""
    delete = kubectl(
        args.access,
        "delete",
        ENTRIES,
        f"--namespace={args.namespace}",
        f"--field-selector=metadata.name={args.name}",
        "--wait=false",
        "--output=name",
    )
    return f'{delete} "--selector={CONFIGURATION}!=$wanted"'


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
