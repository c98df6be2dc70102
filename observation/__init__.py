"""Looks at all VMs over ssh, at once and within a deadline; what an answer means is decided in `hosts.observe`.

The only part of the program that opens connections to VMs by itself, and only where `hosts.observe` says so.
"""

from observation.reader import DEADLINE_SECONDS, observe

__all__ = ["DEADLINE_SECONDS", "observe"]
