"""Decides whether a changed VM is in the mesh again, from its WorkloadEntry. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from registration.ladder import CONNECTED_AT, health_condition
from registration.waves import CONFIGURATION


class Seen(Enum):
    """What an entry says of a VM that has changed."""

    BACK = auto()
    """It is connected with the new configuration and, where the workload has a probe, healthy."""
    OTHER = auto()
    """It has registered with another configuration: it had lost istiod between its entry's end and its restart, and so
    registered as it was. istiod writes an entry only when there is none, so this one has to go."""
    NOT_YET = auto()


def configuration_of(entry: Mapping[str, Any]) -> str:
    """The configuration with which the VM has registered; empty where the entry does not say."""
    return str((entry["metadata"].get("labels") or {}).get(CONFIGURATION, ""))


def seen(entry: Mapping[str, Any] | None, configuration: str, *, has_probe: bool) -> Seen:
    """What the entry says.

    Args:
        entry: None where there is none.
        configuration: With which the VM is to register.
        has_probe: Whether the mesh asks the VM's application.
    """
    if entry is None:
        return Seen.NOT_YET
    if configuration_of(entry) != configuration:
        return Seen.OTHER
    healthy = not has_probe or (health_condition(entry) or {}).get("status") == "True"
    return Seen.BACK if healthy and _connected(entry) else Seen.NOT_YET


def why_not(entry: Mapping[str, Any] | None, configuration: str, *, has_probe: bool, seconds: int) -> str:
    """Why a VM is not back after so many seconds; the rest as for `seen`."""
    if entry is None:
        return f"it has no WorkloadEntry after {seconds} s"
    if configuration_of(entry) != configuration:
        return "it is registered with another configuration"
    condition = health_condition(entry) or {}
    if has_probe and not condition.get("status"):
        return "its sidecar has not told whether the application is healthy"
    if not _connected(entry):
        return "its sidecar has lost istiod again"
    return f"it is unhealthy after {seconds} s: {condition.get('message') or 'no reason is given'}"


def next_attempt(configuration: str) -> str:
    """What a group remembers of a VM that has gone back from a configuration: to try it again is another one."""
    plain, _, attempts = configuration.partition(".")
    return f"{plain}.{int(attempts or 0) + 1}"


def _connected(entry: Mapping[str, Any]) -> bool:
    return CONNECTED_AT in (entry["metadata"].get("annotations") or {})
