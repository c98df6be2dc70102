"""The connection of a VM's commands: what of it stands in the state, its limits, and the agent in the environment."""

import socket
from pathlib import Path
from typing import Any

import pulumi_command as command
from recording import public_text, run, secrets

from components.ssh import agent_problem, connection_args
from hosts.login import SshLogin, SshTarget

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nnot to be seen\n-----END OPENSSH PRIVATE KEY-----\n"
GATE = SshLogin(host="gate", port=2222, user="jump", host_key="ssh-ed25519 GATE", private_key=KEY)
VM = SshLogin(host="10.77.0.21", port=22, user="root", host_key="ssh-ed25519 AAAA", private_key=KEY)


def connection(vm: SshLogin, bastion: SshLogin | None = None) -> dict[str, Any]:
    """What reaches the provider."""

    def program() -> dict[str, Any]:
        command.remote.Command("c", connection=connection_args(SshTarget(vm=vm, bastion=bastion)), create=":")
        return {}

    recorded = run(program)["c"]
    assert "not to be seen" not in public_text(recorded.inputs)
    (found,) = [secret for secret in secrets(recorded.inputs) if isinstance(secret, dict)]
    return dict(found)


def test_without_bastion_and_agent_the_state_holds_nothing_of_them() -> None:
    assert connection(VM) == {
        "host": "10.77.0.21",
        "port": 22,
        "user": "root",
        "hostKey": "ssh-ed25519 AAAA",
        "privateKey": KEY,
        "dialErrorLimit": 1,
        "perDialTimeout": 6,
    }


def test_through_a_bastion_both_host_keys_are_checked() -> None:
    assert connection(VM, GATE) == {
        "host": "10.77.0.21",
        "port": 22,
        "user": "root",
        "hostKey": "ssh-ed25519 AAAA",
        "privateKey": KEY,
        "dialErrorLimit": 0,
        "perDialTimeout": 6,
        "proxy": {
            "host": "gate",
            "port": 2222,
            "user": "jump",
            "hostKey": "ssh-ed25519 GATE",
            "privateKey": KEY,
            "dialErrorLimit": 10,
            "perDialTimeout": 3,
        },
    }


def test_an_agents_socket_is_in_the_state_only_where_it_was_given() -> None:
    ambient = SshLogin(host="10.77.0.21", port=22, user="root", host_key="ssh-ed25519 AAAA")
    assert set(connection(ambient)) & {"privateKey", "agentSocketPath"} == set()
    given = SshLogin(host="h", port=22, user="root", host_key="ssh-ed25519 AAAA", agent_socket="/run/agent")
    assert connection(given)["agentSocketPath"] == "/run/agent"


def test_the_environments_agent_is_looked_at_before_any_vm_fails_for_it(tmp_path: Path) -> None:
    assert agent_problem({}, wanted=False) == ""
    assert agent_problem({"SSH_AUTH_SOCK": ""}, wanted=True) == (
        "hosts.ssh.agent: SSH_AUTH_SOCK is not set, so VMs that change cannot be logged in to"
    )
    path = str(tmp_path / "agent")
    dead = f"no ssh agent answers at SSH_AUTH_SOCK ({path}: no such file or directory), so no VM can be logged in to; "
    assert agent_problem({"SSH_AUTH_SOCK": path}, wanted=True) == f"{dead}start the agent"
    assert agent_problem({"SSH_AUTH_SOCK": path}, wanted=False) == f"{dead}unset SSH_AUTH_SOCK, or start the agent"
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(path)
        agent.listen()
        assert agent_problem({"SSH_AUTH_SOCK": path}, wanted=True) == ""
