"""What the rest of the program gets: the checked configuration with every file read and every default settled."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from settings.models import Cluster, EastWestGateway, Hosts, Istio
from settings.workload_models import Workload


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How one VM is reached: `hosts.ssh` with the VM's own `ssh` over it."""

    user: str
    """Login: root, or a user with passwordless sudo."""
    port: int
    """Port of the ssh server."""
    host_key: str
    """The VM's public host key, `<type> <base64>`; never RSA."""
    private_key: SecretStr
    """The unencrypted private key. Empty where only the stack file was read and holds it encrypted."""


@dataclass(frozen=True, kw_only=True)
class SidecarPackage:
    """A package of the sidecar for one architecture."""

    url: str
    """Where the VM downloads it."""
    sha256: str
    """64 lower-case hex digits."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A stack's configuration, checked; attributes mirror the stack file's keys, then come the settled values."""

    cluster: Cluster
    istio: Istio
    east_west_gateway: EastWestGateway
    hosts: Hosts
    workloads: Mapping[str, Workload]
    connections: Mapping[str, Connection]
    """By VM name, which is unique in the stack."""
    packages: Mapping[str, SidecarPackage]
    """By architecture, `amd64` and `arm64`."""
