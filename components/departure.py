"""How a VM leaves that may be dead: over ssh if it answers, else without it, with a word about what remains there.

The command provider's `delete` fails where nothing answers. So the VM's own commands stay as they are when they go, and
one local command takes the VM down, which can tell an unreachable VM from one that refuses.
"""

from __future__ import annotations

import shlex

import pulumi
import pulumi_command as command

from hosts.login import AGENT_VARIABLE, SshLogin, SshTarget

DIAL_SECONDS = 6
"""How long a VM may take to answer; it is tried twice."""
KEEPALIVES = 3
"""After so many unanswered questions, five seconds apart, a VM that is being taken down counts as unreachable."""
_KEY = "ISTIO_VM_MESH_KEY"
_BASTION_KEY = "ISTIO_VM_MESH_BASTION_KEY"


def departure_command(vm: str, ssh: SshLogin, bastion: SshLogin | None, *, on_vm: str, then: str) -> str:
    """A script that takes a VM down and then runs `then`, also where the VM does not answer. Keys: see `departure`.

    Args:
        vm: Its name.
        ssh: How it is logged in to.
        bastion: The machine through which ssh goes.
        on_vm: What undoes everything on the VM.
        then: What undoes the rest, where Pulumi runs.
    """
    logins = [(ssh, "key", _KEY), *([(bastion, "bastion", _BASTION_KEY)] if bastion else [])]
    known = [f"{_known_as(login)} {login.host_key}" for login, _, _ in logins]
    remains = (
        f"warning: VM {vm} is unreachable and was given up: its WorkloadEntry goes, and its token is revoked. On it "
        "remain the package istio-sidecar with the user istio-proxy, /var/lib/istio, /var/log/istio, /etc/istio, "
        "/etc/certs, /var/lib/istio-vm-mesh, /usr/local/lib/istio-vm-mesh, units of istio-vm-mesh in "
        "/etc/systemd/system, its block in /etc/hosts, and a sidecar that starts with the VM. Should it come back, "
        f"this removes them there: {on_vm}"
    )
    return "\n".join(
        [
            "umask 077",
            "folder=$(mktemp -d) || exit 1",
            "trap 'rm -rf \"$folder\"' EXIT",
            *(
                f'printf \'%s\\n\' "${variable}" >"$folder/{file}"'
                for login, file, variable in logins
                if _has_key(login)
            ),
            f"printf '%s\\n' {shlex.join(known)} >\"$folder/known_hosts\"",
            "status=0",
            f'{_ssh(ssh, bastion)} {shlex.quote(on_vm)} </dev/null 2>"$folder/said" || status=$?',
            'cat "$folder/said" >&2',
            'if [ "$status" = 255 ] && ! grep -q "Permission denied" "$folder/said"; then',
            f"  echo {shlex.quote(remains)} >&2",
            'elif [ "$status" != 0 ]; then',
            '  exit "$status"',
            "fi",
            then,
        ]
    )


def departure(
    name: str, text: str, keys_of: SshTarget | None, address: str, opts: pulumi.ResourceOptions
) -> command.local.Command:
    """The resource that stands for a VM's leaving: making and changing it does nothing, so a dead VM stops neither.

    Args:
        name: The resource's name.
        text: What is done when the VM leaves.
        keys_of: The VM whose keys the text needs; None: it needs none.
        address: The VM's; another one is another machine, and the one before leaves.
        opts: The resource's.
    """
    target = keys_of
    keys = {
        _KEY: target.vm.private_key if target else None,
        _BASTION_KEY: target.bastion.private_key if target and target.bastion else None,
    }
    return command.local.Command(
        name,
        create=":",
        delete=text,
        environment={variable: pulumi.Output.secret(key) for variable, key in keys.items() if key is not None},
        triggers=[address],
        # Else nobody would see what a successful command has to say.
        logging=command.local.Logging.STDERR,
        add_previous_output_in_env=False,
        opts=opts,
    )


def _ssh(ssh: SshLogin, bastion: SshLogin | None) -> str:
    """OpenSSH's command line for a VM, up to the command to run there; `$folder` holds keys and known_hosts."""
    proxy = ""
    if bastion:
        way = f"{_options(bastion, 'bastion')} -W '[%h]:%p' {shlex.quote(f'{bastion.user}@{bastion.host}')}"
        proxy = f' -o "ProxyCommand={way}"'
    return f"{_options(ssh, 'key')}{proxy} {shlex.quote(f'{ssh.user}@{ssh.host}')}"


def _options(login: SshLogin, file: str) -> str:
    options = [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=/dev/null",
        f"HostKeyAlgorithms={login.host_key.split()[0]}",
        f"ConnectTimeout={DIAL_SECONDS}",
        "ConnectionAttempts=2",
        "ServerAliveInterval=5",
        f"ServerAliveCountMax={KEEPALIVES}",
    ]
    flags = " ".join(f"-o {option}" for option in options) + " -o UserKnownHostsFile=$folder/known_hosts"
    key = f" -o IdentitiesOnly=yes -i $folder/{file}" if _has_key(login) else ""
    agent = "" if _has_key(login) else f" -o IdentityAgent={shlex.quote(login.agent_socket or AGENT_VARIABLE)}"
    return f"ssh -F none -p {login.port} {flags}{key}{agent}"


def _known_as(login: SshLogin) -> str:
    return login.host if login.port == 22 else f"[{login.host}]:{login.port}"


def _has_key(login: SshLogin) -> bool:
    return login.private_key is not None
