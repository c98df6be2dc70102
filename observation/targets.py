"""Where a stack's VMs are, and how they are logged in to, by its settings."""

from __future__ import annotations

from collections.abc import Iterable

from hosts.login import SshLogin, SshTarget
from settings import Login, Settings


def targets(settings: Settings, names: Iterable[str]) -> dict[str, SshTarget]:
    """The VMs of these names."""
    vms = {name: vm for workload in settings.workloads.values() for name, vm in workload.vms.items()}
    return {name: target_of(settings, name, vms[name].address) for name in names}


def target_of(settings: Settings, name: str, address: str) -> SshTarget:
    """One VM."""
    connection = settings.connections[name]
    bastion = connection.bastion
    return SshTarget(vm=_login(address, connection), bastion=_login(bastion.host, bastion) if bastion else None)


def _login(host: str, login: Login) -> SshLogin:
    return SshLogin(
        host=host,
        port=login.port,
        user=login.user,
        host_key=login.host_key,
        private_key=None if login.agent else login.private_key.get_secret_value(),
        agent_socket=login.agent_socket,
    )
