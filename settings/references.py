"""Follows what a configuration points to: kubeconfig, charts, checksum files, ssh keys and known_hosts files.

What is found there becomes part of the settings, so that nothing after them reads a file of the user's again.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr

from settings import files, host_keys
from settings.draft import Draft, Vm
from settings.models import Cluster, Hosts, Ssh
from settings.problems import UNSHOWN, Problem, Refused, join
from settings.result import Connection, SidecarPackage

_T = TypeVar("_T")


class References:
    """What a configuration points to, and what is wrong with it."""

    def __init__(self, project: Path) -> None:
        self.problems: list[Problem] = []
        self.connections: dict[str, Connection] = {}
        self.packages: dict[str, SidecarPackage] = {}
        self._project = project
        self._keys: dict[str, SecretStr | None] = {}
        self._known: dict[str, list[host_keys.KnownHost] | None] = {}

    def follow(self, draft: Draft, *, key_is_encrypted: bool) -> None:
        """Read everything that the parts of a configuration point to."""
        if draft.cluster is not None:
            self._kubeconfig(draft.cluster)
        if draft.istio is not None:
            charts = draft.istio.charts
            self._attempt("istio.charts", charts, lambda: files.charts(self._project, charts))
        if draft.hosts is not None:
            self._packages(draft.hosts)
            self._connections(draft, draft.hosts, key_is_encrypted)

    def _attempt(self, path: str, got: Any, action: Callable[[], _T]) -> _T | None:
        """Return what an action returns, or note why it refused."""
        try:
            return action()
        except Refused as refused:
            self.problems.append(Problem(path=path, what=refused.what, got=got, right=refused.right))
            return None

    def _kubeconfig(self, cluster: Cluster) -> None:
        path, context = cluster.kubeconfig, cluster.context
        if path is None:
            return
        if path.startswith("~"):
            right = "a path relative to the project, or leave it out for KUBECONFIG or ~/.kube/config"
            what = "not relative to the project, nor absolute"
            self.problems.append(Problem(path="cluster.kubeconfig", what=what, got=path, right=right))
            return
        found = self._attempt("cluster.kubeconfig", path, lambda: files.contexts(self._project / path))
        if found is not None and context is not None and context not in found:
            what, right = "the kubeconfig has no such context", f"one of {', '.join(found) or '(it has none)'}"
            self.problems.append(Problem(path="cluster.context", what=what, got=context, right=right))

    def _packages(self, hosts: Hosts) -> None:
        for arch, packages in (("amd64", hosts.sidecar.amd64), ("arm64", hosts.sidecar.arm64)):
            if packages is None:
                continue
            deb = packages.deb
            path = join("hosts", "sidecar", arch, "deb", "sha256")
            digest = self._attempt(path, deb.sha256, partial(files.checksum, self._project, deb.sha256, deb.url))
            if digest is not None:
                self.packages[arch] = SidecarPackage(url=deb.url, sha256=digest)

    def _connections(self, draft: Draft, hosts: Hosts, key_is_encrypted: bool) -> None:
        ssh, secret = hosts.ssh, self._secret(draft, hosts, key_is_encrypted)
        for vm in draft.vms:
            own = vm.machine.ssh
            host_key = self._host_key(vm, ssh)
            if own.private_key_file is not None:
                key = self._key_file(vm.path("ssh", "privateKeyFile"), own.private_key_file)
            elif ssh.private_key_file is not None:
                key = self._key_file("hosts.ssh.privateKeyFile", ssh.private_key_file)
            else:
                key = secret
            if host_key is not None and key is not None:
                self.connections[vm.name] = Connection(
                    user=own.user or ssh.user, port=own.port or ssh.port, host_key=host_key, private_key=key
                )

    def _secret(self, draft: Draft, hosts: Hosts, key_is_encrypted: bool) -> SecretStr | None:
        """Return the private key of the stack, and note where there is one too many or none."""
        text, file = draft.ssh_private_key, hosts.ssh.private_key_file
        if (text or key_is_encrypted) and file is not None:
            what, right = "given beside the secret sshPrivateKey", "one of the two"
            self.problems.append(Problem(path="hosts.ssh.privateKeyFile", what=what, got=file, right=right))
        if key_is_encrypted:
            return SecretStr("")
        if text:
            key = self._attempt("sshPrivateKey", UNSHOWN, lambda: files.private_key(text))
            return None if key is None else SecretStr(key)
        if file is None and any(vm.machine.ssh.private_key_file is None for vm in draft.vms):
            right = "pulumi config set --secret sshPrivateKey, or hosts.ssh.privateKeyFile"
            self.problems.append(Problem(path="sshPrivateKey", what="missing, so no VM can be reached", right=right))
        return None

    def _key_file(self, path: str, file: str) -> SecretStr | None:
        """Return the private key in a file; a file that many VMs name is read, and refused, once."""
        if file not in self._keys:
            key = self._attempt(path, file, lambda: files.private_key_file(files.locate(self._project, file)))
            self._keys[file] = None if key is None else SecretStr(key)
        return self._keys[file]

    def _host_key(self, vm: Vm, ssh: Ssh) -> str | None:
        """Return the host key of a VM: its own, else the known_hosts file's."""
        machine, port = vm.machine, vm.machine.ssh.port or ssh.port
        path = vm.path("hostKey")
        own = machine.host_key
        if own is not None:
            return self._attempt(path, own, lambda: host_keys.usable(own))
        file = machine.ssh.known_hosts_file or ssh.known_hosts_file
        if file is None:
            right = "the VM's Ed25519 or ECDSA host key, or hosts.ssh.knownHostsFile"
            self.problems.append(Problem(path=path, what="missing", right=right))
            return None
        if file not in self._known:
            place = vm.path("ssh", "knownHostsFile") if machine.ssh.known_hosts_file else "hosts.ssh.knownHostsFile"
            self._known[file] = self._attempt(
                place, file, lambda: host_keys.read_known_hosts(files.read(files.locate(self._project, file)))
            )
        known = self._known[file]
        if known is None:
            return None
        return self._attempt(path, file, lambda: host_keys.find(known, machine.address, port))
