"""ssh keys of the lab: one for people and the program, and for each VM a host key that is known from the start."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from lab import paths
from lab.pki import write_private
from lab.spec import VmSpec

HOST_KEY = "ssh_host_ed25519_key"


def ensure(path: Path, comment: str) -> str:
    """Make an ed25519 key where there is none.

    Returns:
        The public key's line.
    """
    public = path.with_name(f"{path.name}.pub")
    if not (path.exists() and public.exists()):
        path.parent.mkdir(parents=True, exist_ok=True)
        key = ed25519.Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        write_private(path, private)
        public.write_text(f"{line.decode()} {comment}\n")
    return public.read_text()


def known_hosts(keys: Iterable[tuple[str, str]]) -> str:
    """Return the text of a known_hosts file from addresses and public key lines."""
    return "".join(f"{address} {' '.join(key.split()[:2])}\n" for address, key in keys)


def write_known_hosts(vms: Iterable[VmSpec]) -> None:
    """Write down the host keys of those VMs that have one."""
    files = ((vm.address, vm.folder / f"{HOST_KEY}.pub") for vm in vms)
    text = known_hosts((address, file.read_text()) for address, file in files if file.exists())
    paths.KNOWN_HOSTS.parent.mkdir(parents=True, exist_ok=True)
    part = paths.KNOWN_HOSTS.with_name(".known_hosts.part")
    part.write_text(text)
    part.replace(paths.KNOWN_HOSTS)


def quoted(path: Path) -> str:
    """Return a path for ssh's options, which would take one with a space for several (ssh_config, "arguments")."""
    return f'"{path}"'


def command(vm: VmSpec, user: str = "root") -> list[str]:
    """Return the ssh command for a VM: the lab's key, its pinned host key, no question asked."""
    options = {
        "IdentityFile": quoted(paths.SSH_KEY),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": quoted(paths.KNOWN_HOSTS),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "5",
        "LogLevel": "ERROR",
    }
    return [
        "ssh",
        *(part for key, value in options.items() for part in ("-o", f"{key}={value}")),
        f"{user}@{vm.address}",
    ]
