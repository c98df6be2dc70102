"""Looks at all VMs over ssh, at once and within a deadline; what an answer means is decided in `hosts.observe`."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from hosts.observe import Found
from observation.targets import targets
from settings import Settings


def observe(settings: Settings) -> dict[str, Found]:
    """What is found on each VM by its name; empty where `hosts.observe` is off."""
    if not settings.hosts.observe:
        return {}
    from observation.reader import look  # asyncssh takes its time to import

    return look(targets(settings, settings.connections))


def looking(settings: Settings) -> Callable[[], dict[str, Found]]:
    """Begin to look at the VMs, and return what waits for what is found."""
    return ThreadPoolExecutor(1).submit(observe, settings).result
