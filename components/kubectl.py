"""kubectl commands of resources: what must happen when they are deleted, when the program need not run.

Pure. Paths stay as the user wrote them, so that commands are the same in every clone.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ClusterAccess:
    """How kubectl reaches the cluster: only names, no credentials."""

    kubeconfig: str | None = None
    """Path; without it the ambient one."""
    context: str | None = None
    """Context in it; without it the current one."""

    @property
    def kubeconfig_path(self) -> str | None:
        """The path as programs take it: `~` is the shell's."""
        return str(Path(self.kubeconfig).expanduser()) if self.kubeconfig else None


def kubectl(access: ClusterAccess, *arguments: str) -> str:
    """A kubectl command line for a shell."""
    options = ["--request-timeout=20s"]
    options += [f"--kubeconfig={access.kubeconfig_path}"] if access.kubeconfig else []
    options += [f"--context={access.context}"] if access.context else []
    return shlex.join(["kubectl", *options, *arguments])
