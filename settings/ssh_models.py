"""How VMs are reached by ssh, as a stack file describes it; attribute docstrings are the configuration reference."""

from settings.model import Model
from settings.scalars import Agent, Endpoint, FilePath, Port, User


class Bastion(Model):
    """A machine through which ssh goes to VMs that cannot be reached otherwise (OpenSSH's ProxyJump)."""

    host: Endpoint
    """Its IPv4 address or full name, as the deployer reaches it."""
    port: Port = 22
    """Port of its ssh server."""
    user: User | None = None
    """Login on it. Without it the VM's."""
    private_key_file: FilePath | None = None
    """Path of the private key for it. Without it, and without `agent`, what the VM is logged in to with."""
    agent: Agent | None = None
    """An ssh agent that holds the key for it, as `hosts.ssh.agent`."""
    host_key: str | None = None
    """Its public ssh host key, Ed25519 or ECDSA: `ssh-ed25519 AAAA...`. Without it the one in `knownHostsFile`."""
    known_hosts_file: FilePath | None = None
    """Path of a known_hosts file with its key. Without it `hosts.ssh.knownHostsFile`."""


class Ssh(Model):
    """How VMs are reached; holds for every VM that does not say otherwise."""

    user: User = "root"
    """Login: root, or a user with passwordless sudo."""
    port: Port = 22
    """Port of the ssh server."""
    private_key_file: FilePath | None = None
    """Path of the private key: unencrypted, readable by its owner only. Without it the secret `sshPrivateKey`."""
    agent: Agent | None = None
    """An ssh agent that holds the private key, in place of a key: `true` for the one that `SSH_AUTH_SOCK` names
    wherever the program runs, or the absolute path of its socket, which becomes part of the stack's state. A key may
    have a passphrase there."""
    known_hosts_file: FilePath | None = None
    """Path of a known_hosts file (hashed names too) with the keys of VMs that have no `hostKey`."""
    bastion: Bastion | None = None
    """A machine through which ssh goes. Its own sshd decides how long a VM behind it that does not answer is waited
    for: on Linux 3 s where the VM is in its own network segment and off, else up to 127 s."""


class VmSsh(Model):
    """How one VM is reached, where that differs from `hosts.ssh`."""

    user: User | None = None
    """Login, in place of `hosts.ssh.user`."""
    port: Port | None = None
    """Port of the ssh server, in place of `hosts.ssh.port`."""
    private_key_file: FilePath | None = None
    """Path of the private key, in place of `hosts.ssh.privateKeyFile`, `hosts.ssh.agent` or the secret."""
    agent: Agent | None = None
    """An ssh agent, in place of `hosts.ssh.privateKeyFile`, `hosts.ssh.agent` or the secret."""
    known_hosts_file: FilePath | None = None
    """Path of a known_hosts file, in place of `hosts.ssh.knownHostsFile`."""
    bastion: Bastion | None = None
    """A machine through which ssh goes to this VM, in place of `hosts.ssh.bastion`."""
    direct: bool = False
    """Whether this VM is reached without the bastion of `hosts.ssh`."""
