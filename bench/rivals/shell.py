"""What people type, as a script: istioctl, one ssh stream with the files, the start, the wait."""

from __future__ import annotations

from collections.abc import Sequence

from bench.rivals.common import HERE, Rival
from lab.runtime import VmSpec


class Shell(Rival):
    """One VM after the other. It does not look at what is there: whoever types it knows what has changed."""

    name = "shell"

    def configure(self, vms: Sequence[VmSpec]) -> None:
        """Leave it to `join.sh`."""

    def run(self, vms: Sequence[VmSpec], changed: Sequence[VmSpec]) -> None:
        """Do it all for those that are changed, or for all."""
        self._each(HERE / "join.sh", changed or vms, self._at_once(vms))

    def run_leave(self, vms: Sequence[VmSpec]) -> None:
        """See `Rival`."""
        self._each(HERE / "leave.sh", vms, self._at_once(vms))

    def _at_once(self, vms: Sequence[VmSpec]) -> str:
        return "1"


class ParallelShell(Shell):
    """All VMs at once."""

    name = "shell xargs -P"

    @property
    def namespace(self) -> str:
        """A name that a namespace may have."""
        return "bench-xargs"

    def _at_once(self, vms: Sequence[VmSpec]) -> str:
        return str(len(vms))
