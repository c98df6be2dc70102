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
"""How long a VM may take to answer; through a bastion twice as long."""
ATTEMPTS = 2
"""How often the VM is tried: one that lost the connection midway, or was overrun, may answer then."""
KEEPALIVES = 3
"""After so many unanswered questions, five seconds apart, the connection to a VM counts as lost."""
_KEY = "ISTIO_VM_MESH_KEY"
_BASTION_KEY = "ISTIO_VM_MESH_BASTION_KEY"
_AWAY = "([Tt]imed out|[Tt]imeout|[Rr]efused|[Nn]o route to host|[Uu]nreachable|[Hh]ost is down)"
"""How systems say that nothing answers at an address."""
_NO_CONNECTION = f"^ssh: connect to host .*: .*{_AWAY}"
_BEFORE_BANNER = (
    "^(kex|ssh)_exchange_identification: (read: )?Connection (closed by remote host|reset by peer|timed out)"
    "|^Connection timed out during banner exchange"
)
"""The connection ended before an ssh server said a word: what it came to may be a machine that is going down."""
_LOGGED_IN = "^Authenticated to "
_NOISE = (
    "^(Authenticated to |Transferred: |Bytes per second: |Killed by signal |@|Add correct host key in "
    "|Offending .* key in |  remove with:|  ssh-keygen )"
)
"""What ssh logs where all is well, and advice about a file that is gone by then."""
_OTHER_HOST_KEY = "^Host key verification failed|no matching host key type found"


def departure_command(vm: str, ssh: SshLogin, bastion: SshLogin | None, *, withdraw: str, take_down: str) -> str:
    """A script that lets a VM leave, also where nothing answers at its address. Keys: see `departure`.

    ssh exits with 255 for every failure of its own, so what it logged says which it was. Only where no connection came
    about is the VM given up: a server that answers, be it with another host key, is no dead VM. So it is logged in to
    before anything is done.

    Args:
        vm: Its name.
        ssh: How it is logged in to.
        bastion: The machine through which ssh goes.
        withdraw: What takes it out of the mesh, where Pulumi runs.
        take_down: What undoes everything on the VM.
    """
    logins = [(ssh, "key", _KEY), *([(bastion, "bastion", _BASTION_KEY)] if bastion else [])]
    known = [f"{_known_as(login)} {login.host_key}" for login, _, _ in logins]
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
            'logged() { grep -Eq "$2" "$folder/$1.log" 2>/dev/null; }',
            "on_vm() {",
            f"  for attempt in {' '.join(map(str, range(1, ATTEMPTS + 1)))}; do",
            '    [ "$attempt" = 1 ] || sleep 2',
            '    rm -f "$folder"/*.log',
            "    status=0",
            f'    {_ssh(ssh, bastion)} "$1" </dev/null || status=$?',
            '    [ "$status" = 255 ] || break',
            "  done",
            '  [ "$status" != 0 ] || return 0',
            '  [ "$status" = 255 ] || exit "$status"',
            f'  grep -Ehv {shlex.quote(_NOISE)} "$folder"/*.log >&2',
            f"  if {_unreachable(bastion)}; then",
            f"    echo {shlex.quote(_given_up(vm, take_down))} >&2",
            "    gone=1",
            *_refusals(vm, ssh, bastion),
            "  fi",
            "}",
            "gone= stays='Its WorkloadEntry and its token are left alone.'",
            "on_vm true",
            f"withdraw() {{\n{withdraw}\n}}",
            "withdraw || exit 1",
            "stays='It is out of the mesh by now, its token is left alone.'",
            f'[ -n "$gone" ] || on_vm {shlex.quote(take_down)}',
        ]
    )


def _unreachable(bastion: SshLogin | None) -> str:
    """A condition: no connection to the VM came about. Through a bastion that holds only once it was logged in to."""
    if bastion is None:
        return f"logged vm {shlex.quote(f'{_NO_CONNECTION}|{_BEFORE_BANNER}')}"
    forwarding = shlex.quote(f"open failed: connect failed: .*{_AWAY}")
    return (
        f"logged bastion {shlex.quote(_LOGGED_IN)} && if logged bastion 'open failed: '; then "
        f"logged bastion {forwarding}; else logged vm {shlex.quote(_BEFORE_BANNER)}; fi"
    )


def _refusals(vm: str, ssh: SshLogin, bastion: SshLogin | None) -> list[str]:
    """The other branches: what is wrong, and what to do about it; the script ends there."""
    other_key = (
        f"at {ssh.host} answers a machine whose host key is not the stack's. If it is the VM, put it back into the "
        "stack with its new hostKey, run up, and take it out again. If the VM is gone and another machine has its "
        f"address, take {vm}-departure out of the state (pulumi state delete) and run again."
    )
    broke_off = f"the connection to it broke off {ATTEMPTS} times. Run again."
    refused = (
        "ssh to it fails as said above, which is no proof that it is gone. Mend that, or switch it off, and run again."
    )
    branches = [
        (f"logged vm {shlex.quote(_OTHER_HOST_KEY)}", other_key),
        (f"logged vm {shlex.quote(_LOGGED_IN)}", broke_off),
    ]
    if bastion:
        past = f"ssh does not get past the bastion {bastion.host}, so nobody knows whether it is there. "
        stopped = f"! logged bastion {shlex.quote(_LOGGED_IN)} || logged bastion 'open failed: '"
        branches.append((stopped, f"{past}Mend what is said above, and run again."))
    return [
        *(line for condition, what in branches for line in (f"  elif {condition}; then", f"    {_error(vm, what)}")),
        "  else",
        f"    {_error(vm, refused)}",
    ]


def _error(vm: str, what: str) -> str:
    return f'echo {shlex.quote(f"error: VM {vm} has not left: {what}")} "$stays" >&2; exit 1'


def _given_up(vm: str, take_down: str) -> str:
    return (
        f"warning: VM {vm} is unreachable and was given up: its WorkloadEntry goes, and its token is revoked. On it "
        "remain the package istio-sidecar with the user istio-proxy, /var/lib/istio, /var/log/istio, /etc/istio, "
        "/etc/certs, /var/lib/istio-vm-mesh, /usr/local/lib/istio-vm-mesh, units of istio-vm-mesh in "
        "/etc/systemd/system, its block in /etc/hosts, and a sidecar that starts with the VM. Should it come back, "
        f"this removes them there: {take_down}"
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
        environment={variable: pulumi.Output.secret(key) for variable, key in keys.items() if key is not None} or None,
        triggers=[address],
        # Else nobody would see what a successful command has to say.
        logging=command.local.Logging.STDERR,
        opts=opts,
    )


def _ssh(ssh: SshLogin, bastion: SshLogin | None) -> str:
    """OpenSSH's command line for a VM, up to the command to run there; `$folder` holds keys, known_hosts and logs."""
    if bastion is None:
        return f"{_options(ssh, 'key', 'vm', DIAL_SECONDS)} {shlex.quote(f'{ssh.user}@{ssh.host}')}"
    way = (
        f"{_options(bastion, 'bastion', 'bastion', DIAL_SECONDS)} -W '[%h]:%p' "
        f"{shlex.quote(f'{bastion.user}@{bastion.host}')}"
    )
    options = f'{_options(ssh, "key", "vm", 2 * DIAL_SECONDS)} -o "ProxyCommand={way}"'
    return f"{options} {shlex.quote(f'{ssh.user}@{ssh.host}')}"


def _options(login: SshLogin, file: str, log: str, dial_seconds: int) -> str:
    options = [
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=/dev/null",
        f"HostKeyAlgorithms={login.host_key.split()[0]}",
        f"ConnectTimeout={dial_seconds}",
        "ServerAliveInterval=5",
        f"ServerAliveCountMax={KEEPALIVES}",
        # Says whether the login succeeded.
        "LogLevel=VERBOSE",
    ]
    flags = " ".join(f"-o {option}" for option in options) + " -o UserKnownHostsFile=$folder/known_hosts"
    key = f" -o IdentitiesOnly=yes -i $folder/{file}" if _has_key(login) else ""
    agent = "" if _has_key(login) else f" -o IdentityAgent={shlex.quote(login.agent_socket or AGENT_VARIABLE)}"
    # A log of its own: what the VM's commands say is not to be taken for ssh's word.
    return f"ssh -F none -E $folder/{log}.log -p {login.port} {flags}{key}{agent}"


def _known_as(login: SshLogin) -> str:
    return login.host if login.port == 22 else f"[{login.host}]:{login.port}"


def _has_key(login: SshLogin) -> bool:
    return login.private_key is not None
