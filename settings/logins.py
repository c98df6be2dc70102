"""Settles how every VM is logged in to: by which key or agent, past which host key, through which bastion.

What a VM says goes before `hosts.ssh`. Files of keys and of known hosts are read, and refused, once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from settings import files, host_keys
from settings.draft import Draft, Vm
from settings.models import Hosts
from settings.problems import UNSHOWN, Problem, Refused
from settings.result import BastionLogin, Connection
from settings.ssh_models import Bastion, Ssh, VmSsh

_HOSTS = "hosts.ssh"


@dataclass(frozen=True, kw_only=True)
class _Proof:
    """By what a login is proved: a key, or an agent that holds one."""

    key: SecretStr = field(default_factory=lambda: SecretStr(""))
    agent: bool = False
    socket: str | None = None


class Logins:
    """The connections of a stack's VMs, and what is wrong with them."""

    def __init__(self, project: Path) -> None:
        self.problems: list[Problem] = []
        self._project = project
        self._keys: dict[str, SecretStr | None] = {}
        self._known: dict[str, list[host_keys.KnownHost] | None] = {}
        self._bastion_keys: dict[str, str | None] = {}

    def settle(self, draft: Draft, hosts: Hosts, *, key_is_encrypted: bool) -> Iterator[tuple[str, Connection]]:
        """Yield the connection of each VM that can have one, by the VM's name."""
        ssh, shared = hosts.ssh, self._shared(draft, hosts.ssh, key_is_encrypted)
        for vm in draft.vms:
            if vm.machine.static:
                continue
            own, path = vm.machine.ssh, vm.path("ssh")
            self._one_of_two(path, own)
            host_key = self._vm_key(vm, ssh)
            proof = self._proof(path, own) if own.private_key_file or own.agent else shared
            place, bastion = self._bastion_of(path, own, ssh)
            through = None
            if bastion is not None:
                bastion_proof = self._proof(place, bastion) if bastion.private_key_file or bastion.agent else proof
                through = self._bastion(place, bastion, own.user or ssh.user, bastion_proof, ssh)
            if host_key is None or proof is None or (bastion is not None and through is None):
                continue
            yield (
                vm.name,
                Connection(
                    user=own.user or ssh.user,
                    port=own.port or ssh.port,
                    host_key=host_key,
                    private_key=proof.key,
                    agent=proof.agent,
                    agent_socket=proof.socket,
                    bastion=through,
                ),
            )

    def _shared(self, draft: Draft, ssh: Ssh, key_is_encrypted: bool) -> _Proof | None:
        """Return by what those VMs are logged in to that say nothing; note if it is missing or one too many."""
        text, file = draft.ssh_private_key, ssh.private_key_file
        given = {"privateKeyFile": file, "agent": ssh.agent}
        for key, value in given.items():
            if (text or key_is_encrypted) and value is not None:
                what, right = "given beside the secret sshPrivateKey", "one of the two"
                self.problems.append(Problem(path=f"{_HOSTS}.{key}", what=what, got=value, right=right))
        self._one_of_two(_HOSTS, ssh)
        if ssh.bastion is not None:
            self._one_of_two(f"{_HOSTS}.bastion", ssh.bastion)
        secret = None
        if text:
            try:
                secret = _Proof(key=SecretStr(files.private_key(text)))
            except Refused as refused:
                self._refuse("sshPrivateKey", UNSHOWN, refused)
        if key_is_encrypted:
            return _Proof()
        needed = any(not vm.machine.static and _inherits(vm) for vm in draft.vms)
        if text or not needed:
            return secret
        if file is not None or ssh.agent is not None:
            return self._proof(_HOSTS, ssh)
        right = "pulumi config set --secret sshPrivateKey, or hosts.ssh.privateKeyFile or hosts.ssh.agent"
        self.problems.append(Problem(path="sshPrivateKey", what="missing, so no VM can be reached", right=right))
        return None

    def _one_of_two(self, path: str, ssh: Ssh | VmSsh | Bastion) -> None:
        """Note where there is a key and an agent."""
        if ssh.private_key_file is not None and ssh.agent is not None:
            what, right = "given beside privateKeyFile", "one of the two"
            self.problems.append(Problem(path=f"{path}.agent", what=what, got=ssh.agent, right=right))

    def _proof(self, path: str, ssh: Ssh | VmSsh | Bastion) -> _Proof | None:
        """Return the key or agent that stands at a place of the configuration."""
        if ssh.private_key_file is None:
            return _Proof(agent=True, socket=None if ssh.agent is True else ssh.agent)
        file = ssh.private_key_file
        if file not in self._keys:
            self._keys[file] = None
            try:
                self._keys[file] = SecretStr(files.private_key_file(files.locate(self._project, file)))
            except Refused as refused:
                self._refuse(f"{path}.privateKeyFile", file, refused)
        key = self._keys[file]
        return None if key is None else _Proof(key=key)

    def _bastion_of(self, path: str, own: VmSsh, ssh: Ssh) -> tuple[str, Bastion | None]:
        """Return where the bastion of a VM stands in the configuration, and the bastion."""
        if own.bastion is None:
            return f"{_HOSTS}.bastion", None if own.direct else ssh.bastion
        self._one_of_two(f"{path}.bastion", own.bastion)
        if own.direct:
            problem = Problem(path=f"{path}.direct", what="given beside bastion", got=True, right="one of the two")
            self.problems.append(problem)
        return f"{path}.bastion", own.bastion

    def _bastion(self, path: str, bastion: Bastion, user: str, proof: _Proof | None, ssh: Ssh) -> BastionLogin | None:
        if path not in self._bastion_keys:
            file = bastion.known_hosts_file or ssh.known_hosts_file
            at = path if bastion.known_hosts_file else _HOSTS
            self._bastion_keys[path] = self._host_key(path, bastion.host_key, file, at, bastion.host, bastion.port)
        host_key = self._bastion_keys[path]
        if host_key is None or proof is None:
            return None
        return BastionLogin(
            host=bastion.host,
            user=bastion.user or user,
            port=bastion.port,
            host_key=host_key,
            private_key=proof.key,
            agent=proof.agent,
            agent_socket=proof.socket,
        )

    def _vm_key(self, vm: Vm, ssh: Ssh) -> str | None:
        own = vm.machine.ssh
        file, at = own.known_hosts_file or ssh.known_hosts_file, vm.path("ssh") if own.known_hosts_file else _HOSTS
        return self._host_key(vm.path(), vm.machine.host_key, file, at, vm.machine.address, own.port or ssh.port)

    def _host_key(self, path: str, own: str | None, file: str | None, at: str, host: str, port: int) -> str | None:
        """Return the host key of a machine: its own, else the known_hosts file's, which is named at a place."""
        path = f"{path}.hostKey"
        try:
            if own is not None:
                return host_keys.usable(own)
            if file is None:
                whose = "the bastion's" if path.endswith("bastion.hostKey") else "the VM's"
                right = f"{whose} Ed25519 or ECDSA host key, or hosts.ssh.knownHostsFile"
                self.problems.append(Problem(path=path, what="missing", right=right))
                return None
            known = self._known_hosts(file, at)
            return None if known is None else host_keys.find(known, host, port)
        except Refused as refused:
            self._refuse(path, own or file, refused)
            return None

    def _known_hosts(self, file: str, at: str) -> list[host_keys.KnownHost] | None:
        if file not in self._known:
            self._known[file] = None
            try:
                self._known[file] = host_keys.read_known_hosts(files.read(files.locate(self._project, file)))
            except Refused as refused:
                self._refuse(f"{at}.knownHostsFile", file, refused)
        return self._known[file]

    def _refuse(self, path: str, got: object, refused: Refused) -> None:
        self.problems.append(Problem(path=path, what=refused.what, got=got, right=refused.right))


def _inherits(vm: Vm) -> bool:
    return vm.machine.ssh.private_key_file is None and vm.machine.ssh.agent is None
