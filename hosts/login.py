"""How a machine is logged in to: the same for the command provider's connections and for the program's own."""

from __future__ import annotations

from dataclasses import dataclass, field

AGENT_VARIABLE = "SSH_AUTH_SOCK"


@dataclass(frozen=True, kw_only=True)
class SshLogin:
    """How a machine is logged in to."""

    host: str
    port: int
    user: str
    host_key: str
    """Public ssh host key; a connection to anything else fails."""
    private_key: str | None = field(default=None, repr=False)
    """Secret. None where an agent holds the key; empty where only the stack file was read, which holds it encrypted."""
    agent_socket: str | None = None
    """Of the agent; None for the one that the environment names, whose path changes and is kept in no state."""


@dataclass(frozen=True, kw_only=True)
class SshTarget:
    """A VM, and the way to it."""

    vm: SshLogin
    bastion: SshLogin | None = None
    """The machine through which ssh goes."""

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{self.vm.host}:{self.vm.port}"
