"""Decides which VMs need a new token, from what the cluster shows of each VM's credential.

Pure: no clock, no network, no Pulumi. A token's number is part of the name of the Secret that it is bound to, so the
cluster itself remembers which one is the last, and a plan stays the same until there is a need.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cluster.objects import made_by_pulumi
from registration.ladder import DeclaredVm, parse_time

VM_LABEL = "istio-vm-mesh/vm"
"""On the Secret that a VM's token is bound to."""
IDENTITY = "istio-vm-mesh/identity"
"""Annotation: whose token it is."""
RENEW = "istio-vm-mesh/renew"
"""Annotation: the VM stands under `renew`. While it does, it is not asked for again."""
ENTRY = "istio-vm-mesh/entry"
"""Annotation: the name of the VM's WorkloadEntry. It does not go with a VM that had the same machine before."""
BECAUSE = "istio-vm-mesh/because"
"""Annotation: why the token was made anew."""

USED = "istio-vm-mesh/used"
"""Annotation: the VM was confirmed with a token of this Secret, under the root certificate with this digest."""

ASKED = "it is named under renew"
MOVED = "its identity has changed"
BARE = "it has no valid certificate any more"
UNUSED = "its token ran out before it was used"
RAN_OUT = "its certificate has run out, or is about to, while it was disconnected"


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A VM that is to have a credential."""

    vm: DeclaredVm
    identity: str
    """Whose token it needs; another one needs another token."""
    renew: bool = False
    """Whether it stands under `renew`."""
    certificate_seconds: int = 86400
    """Life of its certificates."""
    certificate_until: str = ""
    """RFC 3339: how long its certificate lasts, as the VM itself says; empty where it has not been asked."""
    bare: bool = False
    """Whether the VM itself says that it has none that is valid."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What the cluster holds of a VM's credential."""

    number: int = 0
    """Which token it is, counted from 1; 0 where there has been none."""
    because: str = ""
    identity: str = ""
    """Empty where it is not noted."""
    renewed: bool = False
    """Whether it was made, or left, while the VM stood under `renew`."""
    made: datetime | None = None
    """When its Secret was made, shortly before the token; None where there is no Secret."""
    used: str = ""
    """Digest of the mesh's root certificate under which the VM was confirmed with it; empty where it was not."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which token a VM is to have."""

    number: int = 1
    because: str = ""
    """Why it is not the first one."""
    used: str = ""
    """As in `Record`; empty for one that is to be minted, as for a VM that has lost its certificate."""
    unseen: bool = False
    """Whether no Secret of the VM's was seen: it is new, or its Secret was deleted by hand, or whoever previews may not
    read Secrets, and so could not mint either. What the stack has already stays."""


class FormerVersion(Exception):
    """VMs were joined by a version whose stacks this one cannot take over; the message is for people."""


def refuse_former_version(secrets: Iterable[Mapping[str, Any]], vms: Iterable[DeclaredVm]) -> None:
    """Refuse a stack whose Secrets are resources of it: this version has none, so that they would be deleted.

    With them go those that stood for a VM's leaving, which would take every VM out of the mesh.

    Raises:
        FormerVersion: There are such Secrets.
    """
    ours = {(vm.namespace, vm.name) for vm in vms}
    resources = [secret["metadata"] for secret in secrets if made_by_pulumi(secret)]
    found = {made["labels"][VM_LABEL] for made in resources if (made["namespace"], made["labels"][VM_LABEL]) in ours}
    if found:
        raise FormerVersion(
            f"VMs {', '.join(sorted(found))} were joined by an earlier version of this program, and this one would "
            "take them out of the mesh: destroy the stack with that version, then run up with this one"
        )


def secret_name(vm: str, number: int) -> str:
    """The name of the Secret that a token is bound to; a dot is in no VM's name."""
    return f"istio-vm-{vm}" if number == 1 else f"istio-vm-{vm}.{number}"


def record_of(vm: DeclaredVm, secrets: Iterable[Mapping[str, Any]]) -> Record:
    """What Secrets with the label `VM_LABEL` say about a VM's credential."""
    ours = _by_number(vm, secrets)
    if not ours:
        return Record()
    number = max(ours)
    metadata = ours[number]["metadata"]
    annotations = metadata.get("annotations") or {}
    return Record(
        number=number,
        because=annotations.get(BECAUSE, ""),
        identity=annotations.get(IDENTITY, ""),
        renewed=RENEW in annotations,
        made=parse_time(metadata.get("creationTimestamp")),
        used=annotations.get(USED, ""),
    )


def declared_need(holder: Holder, record: Record, token_seconds: int, now: datetime) -> str:
    """Why a VM needs a new token whether it is connected or not; empty where it does not."""
    if not record.number:
        return ""
    if record.identity not in ("", holder.identity):
        return MOVED
    if holder.renew and not record.renewed:
        return ASKED
    return BARE if holder.bare and _age(record, now) >= token_seconds else ""


def name_before(holder: Holder, record: Record, secrets: Iterable[Mapping[str, Any]], declared: Collection[str]) -> str:
    """What a VM without a token says of its machine, where that is in the mesh under a name that leaves the stack.

    Args:
        holder: The VM.
        record: What the cluster holds of it.
        secrets: Secrets with the label `VM_LABEL`.
        declared: Names of all VMs of the stack.
    """
    for item in () if record.number else secrets:
        metadata = item["metadata"]
        other = metadata["labels"][VM_LABEL]
        same = (metadata.get("annotations") or {}).get(ENTRY) == holder.vm.entry
        if same and metadata.get("namespace") == holder.vm.namespace and other not in declared:
            return f"its machine is in the mesh as {other}, which leaves"
    return ""


def need_if_cut_off(holder: Holder, record: Record, token_seconds: int, now: datetime) -> str:
    """Why a VM without a connection to istiod needs a new token; empty where it does not.

    A VM that has not been asked may have renewed the certificate that it got with the token, and how long that lasts
    only the VM knows; so this may be early, and never late.
    """
    if record.made is None:
        return ""
    if not record.used:
        return UNUSED if _age(record, now) >= token_seconds else ""
    margin = min(token_seconds, holder.certificate_seconds / 2)
    until = parse_time(holder.certificate_until)
    left = (until - now).total_seconds() if until else holder.certificate_seconds - _age(record, now)
    return RAN_OUT if left <= margin else ""


def wanted(holder: Holder, record: Record, need: str, now: datetime) -> Wanted:
    """The token that a VM is to have: the one that it has, or the next one.

    Where there is no Secret, nobody knows what the last number was: a VM that is to be renewed gets one that none had.
    """
    if not record.number:
        if holder.renew:
            return Wanted(number=int(f"{now:%Y%m%d}"), because=ASKED)
        return Wanted(because=need, unseen=True)
    if need:
        return Wanted(number=record.number + 1, because=need)
    return Wanted(number=record.number, because=record.because, used="" if holder.bare else record.used)


def settled(pods: Iterable[Mapping[str, Any]], now: datetime, since: timedelta) -> bool:
    """Whether an istiod has been ready for some time: else it says nothing that a VM is not connected to it."""
    for pod in pods:
        for condition in (pod.get("status") or {}).get("conditions") or []:
            moment = parse_time(condition.get("lastTransitionTime"))
            ready = condition.get("type") == "Ready" and condition.get("status") == "True"
            if ready and moment is not None and now - moment >= since:
                return True
    return False


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
DEFAULT_CERTIFICATE_SECONDS = 86400
"""What an agent asks for without `SECRET_TTL`: `pilot/cmd/pilot-agent/options/options.go`."""


def certificate_seconds(secret_ttl: str) -> int:
    """Life of a sidecar's certificates by its `SECRET_TTL`, a Go duration; one that is none counts as not given."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|m|s|us|µs|ns)", secret_ttl)
    total = sum(float(number) * _UNITS[unit] for number, unit in parts)
    whole = "".join(number + unit for number, unit in parts) == secret_ttl.removeprefix("+")
    return round(total) if whole and total >= 1 else DEFAULT_CERTIFICATE_SECONDS


def _age(record: Record, now: datetime) -> float:
    return (now - record.made).total_seconds() if record.made else 0


def _by_number(vm: DeclaredVm, objects: Iterable[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    found = {}
    for item in objects:
        metadata = item["metadata"]
        if metadata.get("namespace") != vm.namespace or "deletionTimestamp" in metadata:
            continue
        match = re.fullmatch(rf"istio-vm-{re.escape(vm.name)}(?:\.([0-9]+))?", metadata["name"])
        if match:
            found[int(match[1] or 1)] = item
    return found
