"""What the rest of the program gets: the checked configuration with every file read and every default settled."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from settings.ingress_models import IngressGateway
from settings.models import Cluster, EastWestGateway, Hosts, Istio
from settings.namespace_models import Namespace
from settings.service_models import MeshService
from settings.traffic_models import HostTraffic
from settings.workload_models import Workload


@dataclass(frozen=True, kw_only=True)
class Login:
    """How a machine is logged in to."""

    user: str
    """On a VM root, or a user with passwordless sudo."""
    port: int
    """Port of the ssh server."""
    host_key: str
    """The machine's public host key, `<type> <base64>`; never RSA."""
    private_key: SecretStr = field(default_factory=lambda: SecretStr(""))
    """The unencrypted private key. Empty with an agent, and where only the stack file was read, which holds it
    encrypted."""
    agent: bool = False
    """Whether an ssh agent holds the key."""
    agent_socket: str | None = None
    """Path of the agent's socket; None for the one that `SSH_AUTH_SOCK` names."""


@dataclass(frozen=True, kw_only=True)
class BastionLogin(Login):
    """The machine through which ssh goes."""

    host: str
    """Its IPv4 address or name."""


@dataclass(frozen=True, kw_only=True)
class Connection(Login):
    """How one VM is reached: `hosts.ssh` with the VM's own `ssh` over it."""

    bastion: BastionLogin | None = None


@dataclass(frozen=True, kw_only=True)
class SidecarPackage:
    """A package of the sidecar for one architecture and one kind of package manager."""

    url: str | None
    """Where the VM downloads it; None: it is a file."""
    file: str | None
    """Its path as the stack file gives it, where the VM gets a copy; None: it has a URL."""
    sha256: str
    """64 lower-case hex digits."""


@dataclass(frozen=True, kw_only=True)
class TlsCertificate:
    """A certificate of the ingress gateway."""

    certificate: str
    """PEM, with those of its issuers."""
    private_key: SecretStr
    client_ca: str | None
    """PEM: what clients' certificates must come from, where they must have one."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A stack's configuration, checked; attributes mirror the stack file's keys, then come the settled values."""

    cluster: Cluster
    istio: Istio
    east_west_gateway: EastWestGateway
    ingress_gateway: IngressGateway
    hosts: Hosts
    namespaces: Mapping[str, Namespace]
    services: Mapping[str, MeshService]
    traffic: Mapping[str, HostTraffic]
    workloads: Mapping[str, Workload]
    connections: Mapping[str, Connection]
    """By VM name, which is unique in the stack; static VMs have none."""
    renew: frozenset[str]
    """VMs that get a new token once."""
    packages: Mapping[str, SidecarPackage]
    """By package manager and architecture, as `deb-amd64` and `rpm-arm64`."""
    own_packages: Mapping[str, Mapping[str, SidecarPackage]]
    """By VM, of those that do not take `packages`."""
    certificates: Mapping[str, TlsCertificate]
    """Those of the ingress gateway that come from files, by the name of their Secret."""

    def packages_of(self, vm: str) -> Mapping[str, SidecarPackage]:
        """Return the packages for a VM: its own, its workload's, or those for every VM."""
        return self.own_packages.get(vm, self.packages)
