"""Asks every VM what has changed on it: one connection a VM, one deadline for all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from hosts.login import SshTarget
from hosts.observe import OBSERVE, Found, found
from hosts.ssh import ask

DEADLINE_SECONDS = 9.0
"""For all VMs together; with what Python needs to begin and to end, ten seconds."""


def look(targets: Mapping[str, SshTarget], seconds: float = DEADLINE_SECONDS) -> dict[str, Found]:
    """What is found on each VM."""
    now = datetime.now(UTC)
    return {
        name: Found(unknown=answer.unknown)
        if answer.unknown
        else found(answer.status, answer.output, answer.errors, now=now)
        for name, answer in ask(targets, dict.fromkeys(targets, OBSERVE), seconds).items()
    }
