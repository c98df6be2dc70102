"""Looks at all VMs over ssh, at once and within a deadline; what an answer means is decided in `hosts.observe`.

The only part of the program that opens connections to VMs by itself, and only where `hosts.observe` says so.
"""

from hosts.observe import Found
from settings import Settings


def observe(settings: Settings) -> dict[str, Found]:
    """What is found on each VM by its name; empty where `hosts.observe` is off."""
    if not settings.hosts.observe:
        return {}
    from observation.reader import Target, look  # asyncssh takes its time to import

    return look(
        {
            name: Target(address=vm.address, connection=settings.connections[name])
            for workload in settings.workloads.values()
            for name, vm in workload.vms.items()
            if name in settings.connections
        }
    )
