"""How a VM's commands get to it: the connection of Pulumi's command provider, with limits that suit its way to dial.

https://github.com/pulumi/pulumi-command/blob/v1.2.1/provider/pkg/provider/remote/connection.go
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import pulumi
import pulumi_command as command
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)

from hosts.login import AGENT_VARIABLE, SshLogin, SshTarget

DIAL_ERRORS = 1
DIAL_SECONDS = 6
"""Two dials of six seconds: an unreachable VM fails in well under 20 s."""
OUTLASTING_DIAL_SECONDS = 2
"""Of many dials, one that is lost matters little; to a dead VM each of them takes as long."""
BASTION_DIAL_ERRORS = 10
"""Retries, over 11 s, of a bastion that hangs up: sshd drops connections at random while many log in at once
(MaxStartups 10:30:100). Of fifty logins at once 15 were dropped; none was a third time."""
BASTION_DIAL_SECONDS = 3
"""A bastion that does not answer fails after eleven dials and the pauses between them, 45 s."""
THROUGH_BASTION_ERRORS = 0
"""A VM behind a bastion is tried once: no limit of ours ends the bastion's own attempt to connect."""


def connection_args(target: SshTarget, *, outlast: int = 0) -> command.remote.ConnectionArgs:
    """The connection to a VM, through a bastion where there is one.

    Args:
        target: The VM.
        outlast: Seconds for which it is dialled at least, where a VM that does not answer will soon do so again. The
            provider's pauses between two dials grow to five seconds within eight dials. Not through a bastion.
    """
    if target.bastion is None:
        errors, seconds = (8 + outlast // 5, OUTLASTING_DIAL_SECONDS) if outlast else (DIAL_ERRORS, DIAL_SECONDS)
        return command.remote.ConnectionArgs(
            **_login(target.vm), dial_error_limit=errors, per_dial_timeout=seconds, proxy=None
        )
    proxy = command.remote.ProxyConnectionArgs(
        **_login(target.bastion), dial_error_limit=BASTION_DIAL_ERRORS, per_dial_timeout=BASTION_DIAL_SECONDS
    )
    return command.remote.ConnectionArgs(
        **_login(target.vm),
        dial_error_limit=THROUGH_BASTION_ERRORS,
        per_dial_timeout=DIAL_SECONDS,
        proxy=proxy,
    )


def _short(private_key: str) -> str:
    """The same key in fewer letters, where it can be: it stands in the state twice for each command."""
    try:
        key = load_ssh_private_key(private_key.encode(), None)
    except (ValueError, UnsupportedAlgorithm):
        return private_key
    if not isinstance(key, Ed25519PrivateKey):
        return private_key
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _login(login: SshLogin) -> dict[str, Any]:
    return {
        "host": login.host,
        "port": login.port,
        "user": login.user,
        "host_key": login.host_key,
        "private_key": None if login.private_key is None else pulumi.Output.secret(_short(login.private_key)),
        "agent_socket_path": login.agent_socket,
    }


def agent_problem(environment: Mapping[str, str], *, wanted: bool) -> str:
    """Why the environment's ssh agent is in the way, or not there; empty where all is well.

    The provider dials the agent that the environment names even for a connection that has a key, and fails where
    nobody listens.

    Args:
        environment: The program's, which is also the provider's.
        wanted: Whether any VM is logged in to with that agent.
    """
    path = environment.get(AGENT_VARIABLE)
    if not path:
        return (
            f"hosts.ssh.agent: {AGENT_VARIABLE} is not set, so VMs that change cannot be logged in to" if wanted else ""
        )
    try:
        with socket.socket(socket.AF_UNIX) as agent:
            agent.connect(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        remedy = "start the agent" if wanted else f"unset {AGENT_VARIABLE}, or start the agent"
        return f"no ssh agent answers at {AGENT_VARIABLE} ({path}: {reason}), so no VM can be logged in to; {remedy}"
    return ""
