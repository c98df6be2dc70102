"""How a VM leaves that may be dead: over ssh if it answers, else without it, with a word about what remains there.

The command provider's `delete` fails where nothing answers, and each takes a connection. So a VM's own commands have
none, and one local command takes the VM out of the mesh, and down: `departure.sh`, which can tell an unreachable VM
from one that refuses. The engine keeps what it has to know, and not the script, which is the same for all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pulumi
import pulumi_command as command

from components.kubectl import ClusterAccess
from hosts.login import SshLogin, SshTarget

SCRIPT = Path(__file__).with_suffix(".sh")
_DELETE = f"sh components/{SCRIPT.name}"
"""It runs in the project's folder, as kubeconfigs are found there."""
_KEY = "ISTIO_VM_MESH_KEY"
_BASTION_KEY = "ISTIO_VM_MESH_BASTION_KEY"


def leaving(
    vm: str,
    target: SshTarget,
    access: ClusterAccess,
    *,
    namespace: str,
    entry: str,
    take_down: str,
    unreachable: bool,
) -> str:
    """What the script has to know, but for private keys: a line each.

    Args:
        vm: The VM's name.
        target: How it is logged in to.
        access: The cluster.
        namespace: Of its workload.
        entry: The name of its WorkloadEntry.
        take_down: What undoes everything on the VM.
        unreachable: Whether it may leave although nothing answers.
    """
    bastion = target.bastion
    said = {
        "vm": vm,
        "namespace": namespace,
        "entry": entry,
        "login": _login(target.vm),
        "host-key": target.vm.host_key,
        "agent": target.vm.agent_socket,
        "bastion": bastion and _login(bastion),
        "bastion-host-key": bastion and bastion.host_key,
        "bastion-agent": bastion and bastion.agent_socket,
        "kubeconfig": access.kubeconfig_path,
        "context": access.context,
        "unreachable": "leaves" if unreachable else None,
        "take-down": take_down,
    }
    return "".join(f"{key}: {value}\n" for key, value in said.items() if value)


def _login(login: SshLogin) -> str:
    return f"{login.user} {login.host} {login.port}"


def private_keys(target: SshTarget) -> dict[str, pulumi.Output[str]]:
    """The private keys that the script needs, by variable."""
    keys = {_KEY: target.vm.private_key, _BASTION_KEY: target.bastion.private_key if target.bastion else None}
    return {variable: pulumi.Output.secret(key) for variable, key in keys.items() if key is not None}


def membership(
    name: str, said: str, environment: dict[str, Any], address: str, opts: pulumi.ResourceOptions
) -> command.local.Command:
    """The resource that stands for a VM's place in the mesh: making and changing it does nothing on the VM.

    Args:
        name: The resource's name.
        said: What the script has to know when the VM leaves.
        environment: Private keys, and what a plan shows of the VM's entry and Secret.
        address: The VM's; another one is another machine, and the one before leaves.
        opts: The resource's.
    """
    return command.local.Command(
        name,
        create=":",
        delete=_DELETE,
        stdin=said,
        environment=environment,
        triggers=[address],
        # Else nobody would see what a successful command has to say.
        logging=command.local.Logging.STDERR,
        # A VM that takes the login and then hangs would hold the run for ever. What a VM does to go ends within 270 s,
        # and is tried twice.
        opts=pulumi.ResourceOptions.merge(
            opts, pulumi.ResourceOptions(custom_timeouts=pulumi.CustomTimeouts(delete="15m"))
        ),
    )
