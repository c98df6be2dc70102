"""Looks at all VMs over ssh, at once and within a deadline; what an answer means is decided in `hosts.observe`.

The only part of the program that opens connections to VMs by itself, and only where `hosts.observe` says so.
"""

from hosts.observe import Found
from settings import Settings


def observe(settings: Settings) -> dict[str, Found]:
    """What is found on each VM by its name; empty where `hosts.observe` is off."""
    if not settings.hosts.observe:
        return {}
    from observation.reader import look, targets  # asyncssh takes its time to import

    return look(targets(settings, settings.connections))
