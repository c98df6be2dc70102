"""The stack's configuration as typed, frozen models: what may be written, its defaults and its meaning.

Attribute docstrings are the configuration reference (`docs/configuration.md` is made from them), so they speak to users.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic.alias_generators import to_camel

from settings.problems import wrong
from settings.scalars import (
    Address,
    DnsLabel,
    DnsName,
    FilePath,
    HostName,
    Hub,
    LabelKey,
    LabelValue,
    Network,
    Port,
    PortName,
    ProxyConfigAnnotations,
    ServiceName,
    Tag,
    Url,
    User,
    Version,
)

RELEASE_CHARTS = "https://blob.istio.io/istio-release/charts"


class Model(BaseModel):
    """What all parts of the configuration share: strict, frozen, camelCase keys, no unknown ones."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        strict=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    later: ClassVar[frozenset[str]] = frozenset()
    """Keys of the configuration's contract that this version refuses by name."""

    @model_validator(mode="before")
    @classmethod
    def _empty_means_absent(cls, data: Any) -> Any:
        """Take a known key without a value (`kubeconfig: ~`) for one that is not there."""
        if not isinstance(data, dict):
            return data
        known = cls.later | {field.alias for field in cls.model_fields.values()}
        return {key: value for key, value in data.items() if value is not None or key not in known}


class Cluster(Model):
    """The Kubernetes cluster that holds the control plane."""

    name: DnsLabel
    """Name of the cluster in the mesh; becomes `global.multiCluster.clusterName`."""
    network: Network
    """Name of the network that the cluster's pods are in; labels the namespace `istio-system`."""
    kubeconfig: FilePath | None = None
    """Path of a kubeconfig. Without it the ambient one: `KUBECONFIG`, then `~/.kube/config`."""
    context: str | None = None
    """Context in the kubeconfig. Without it the current one."""


class Istio(Model):
    """Istio's control plane."""

    later: ClassVar[frozenset[str]] = frozenset({"caSecret"})

    install: Literal["helm", "existing"] = "helm"
    """How the control plane gets there: `helm` installs it. `existing` is not supported yet."""
    version: Version
    """Istio's version: of the charts of a repository, and of the images where `tag` is not given."""
    charts: FilePath = RELEASE_CHARTS
    """Chart repository (`https://` or `oci://`), or a folder that holds `base`, `istiod` and `gateway`."""
    hub: Hub = "docker.io/istio"
    """Image repository; `global.hub`."""
    tag: Tag | None = None
    """Image tag; `global.tag`. Without it the version."""
    revision: DnsLabel | Literal[""] = ""
    """Revision of the control plane; empty: the default one."""
    mesh_id: Network = "mesh1"
    """Identifier of the mesh; `global.meshID`."""
    trust_domain: DnsName = "cluster.local"
    """Trust domain of all identities in the mesh; `meshConfig.trustDomain`."""
    values: Mapping[str, Any] = {}
    """More values for the chart `istiod`, merged under the ones this program sets."""


class EastWestGateway(Model):
    """The gateway through which VMs reach istiod and services."""

    later: ClassVar[frozenset[str]] = frozenset({"address", "nodePorts"})

    service: Literal["LoadBalancer", "NodePort", "none"] = "LoadBalancer"
    """Type of its Service. `NodePort` and `none` are not supported yet."""
    expose_istiod: bool = True
    """Whether it passes 15012 and 15017 to istiod, which is how VMs reach it. `false` is not supported yet."""
    expose_services: bool = True
    """Whether it passes 15443 to the services in the mesh (`*.local`)."""
    values: Mapping[str, Any] = {}
    """More values for the chart `gateway`, merged under the ones this program sets."""


class Deb(Model):
    """A Debian package of the sidecar."""

    url: Url
    """Where the VM downloads the package: an http or https URL that the VM reaches."""
    sha256: FilePath
    """SHA-256 of the package: 64 hex digits, or the path of a checksum file (`sha256sum` format) with one line for it."""


class Packages(Model):
    """The sidecar's packages for one architecture."""

    later: ClassVar[frozenset[str]] = frozenset({"rpm"})

    deb: Deb
    """Package for Debian, Ubuntu and their like."""


class Sidecar(Model):
    """The sidecar's packages by architecture; a VM gets the one that fits it."""

    later: ClassVar[frozenset[str]] = frozenset({"file", "url", "sha256"})

    amd64: Packages | None = None
    """Packages for x86-64."""
    arm64: Packages | None = None
    """Packages for 64-bit ARM."""

    @model_validator(mode="after")
    def _not_empty(self) -> "Sidecar":
        if self.amd64 is None and self.arm64 is None:
            raise wrong("names no package", "amd64 or arm64 or both, as in {amd64: {deb: {url: ..., sha256: ...}}}")
        return self


class Ssh(Model):
    """How VMs are reached; holds for every VM that does not say otherwise."""

    later: ClassVar[frozenset[str]] = frozenset({"agent", "bastion"})

    user: User = "root"
    """Login: root, or a user with passwordless sudo."""
    port: Port = 22
    """Port of the ssh server."""
    private_key_file: FilePath | None = None
    """Path of the private key: unencrypted, readable by its owner only. Without it the secret `sshPrivateKey`."""
    known_hosts_file: FilePath | None = None
    """Path of a known_hosts file (hashed names too) with the keys of VMs that have no `hostKey`."""


class VmSsh(Model):
    """How one VM is reached, where that differs from `hosts.ssh`."""

    later: ClassVar[frozenset[str]] = Ssh.later

    user: User | None = None
    """Login, in place of `hosts.ssh.user`."""
    port: Port | None = None
    """Port of the ssh server, in place of `hosts.ssh.port`."""
    private_key_file: FilePath | None = None
    """Path of the private key, in place of `hosts.ssh.privateKeyFile`."""
    known_hosts_file: FilePath | None = None
    """Path of a known_hosts file, in place of `hosts.ssh.knownHostsFile`."""


class Hosts(Model):
    """What holds for every VM."""

    later: ClassVar[frozenset[str]] = frozenset({"routes", "istiodAddress"})

    sidecar: Sidecar
    """The sidecar's packages."""
    ssh: Ssh = Ssh()
    """How VMs are reached."""


class HttpHeader(Model):
    """A header that a probe sends."""

    name: str
    """Name of the header."""
    value: str
    """Its value."""


class HttpGet(Model):
    """A probe that asks over HTTP; healthy is a status from 200 to 399."""

    path: str = "/"
    """Path that is asked for."""
    port: Port
    """Port on the VM."""
    host: str | None = None
    """Host to connect to. Without it the VM's address."""
    scheme: Literal["HTTP", "HTTPS"] | None = None
    """`HTTP` (also without it) or `HTTPS`."""
    http_headers: list[HttpHeader] | None = None
    """Headers to send."""


class TcpSocket(Model):
    """A probe that opens a TCP connection."""

    port: Port
    """Port on the VM."""
    host: str | None = None
    """Host to connect to. Without it the VM's address."""


class Exec(Model):
    """A probe that runs a command on the VM; healthy is exit code 0."""

    command: Annotated[list[str], Field(min_length=1)]
    """The command and its arguments; no shell."""


Seconds = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Probe(Model):
    """How the sidecar finds out whether the application is healthy: exactly one of httpGet, tcpSocket, exec."""

    later: ClassVar[frozenset[str]] = frozenset({"grpc"})

    http_get: HttpGet | None = None
    """Ask over HTTP."""
    tcp_socket: TcpSocket | None = None
    """Open a TCP connection."""
    exec: Exec | None = None
    """Run a command."""
    initial_delay_seconds: Seconds | None = None
    """Seconds before the first probe. Istio's default: 0."""
    timeout_seconds: Count | None = None
    """Seconds after which a probe counts as failed. Istio's default: 1."""
    period_seconds: Count | None = None
    """Seconds between probes. Istio's default: 10."""
    success_threshold: Count | None = None
    """Successes in a row that make a VM healthy. Istio's default: 1."""
    failure_threshold: Count | None = None
    """Failures in a row that make a VM unhealthy. Istio's default: 1."""

    @model_validator(mode="after")
    def _one_action(self) -> "Probe":
        given = [n for n, v in (("httpGet", self.http_get), ("tcpSocket", self.tcp_socket), ("exec", self.exec)) if v]
        if len(given) != 1:
            what = f"has {' and '.join(given)}" if given else "says nothing to probe, which istiod refuses"
            raise wrong(what, "exactly one of httpGet, tcpSocket and exec")
        return self


class Service(Model):
    """The name under which the mesh reaches a workload."""

    host: HostName | None = None
    """Its full name, `<service>.<namespace>.svc.cluster.local`. Without it the service is named like the workload."""
    ports: Annotated[Mapping[PortName, Port], Field(min_length=1)]
    """Ports of the service by name; each name is one of the workload's ports, to which it leads."""


class VirtualMachine(Model):
    """A VM of a workload; the map's key is its name."""

    later: ClassVar[frozenset[str]] = frozenset({"weight"})

    address: Address
    """IPv4 address by which the deployer and the mesh reach the VM."""
    host_key: str | None = None
    """The VM's public ssh host key, Ed25519 or ECDSA: `ssh-ed25519 AAAA...`. Without it `knownHostsFile` must have it."""
    ssh: VmSsh = VmSsh()
    """What differs from `hosts.ssh` for this VM."""
    labels: Mapping[LabelKey, LabelValue] = {}
    """Labels of this VM, over the workload's."""


class Workload(Model):
    """An application on VMs: a WorkloadGroup and its Service; the map's key is its name."""

    namespace: DnsLabel
    """Namespace of the workload. The program makes it."""
    service_account: DnsName
    """Service account whose identity the VMs bear. The program makes it."""
    labels: Mapping[LabelKey, LabelValue] = {}
    """Labels of the workload and, with `app` and `version`, its canonical name and revision."""
    annotations: Annotated[Mapping[LabelKey, str], ProxyConfigAnnotations] = {}
    """Annotations of the WorkloadGroup, as `proxy.istio.io/config`."""
    network: Network | None = None
    """Network that the VMs are in. Without it `cluster.network`."""
    ports: Mapping[PortName, Port] = {}
    """Ports the application listens on, by name; `http`, `grpc-...`, `tcp-...` say the protocol. Without any the
    sidecar takes all inbound ports but ssh's."""
    probe: Probe | None = None
    """How the sidecar finds out whether the application is healthy. Without it no VM gets beyond `registered`."""
    service: Service | None = None
    """The name under which the mesh reaches the workload. Without it there is none."""
    vms: Mapping[DnsLabel, VirtualMachine] = {}
    """The VMs by name: the host name, unique in the stack."""


class StackConfig(Model):
    """Everything a stack file may say under `istio-vm-mesh:`."""

    later: ClassVar[frozenset[str]] = frozenset({"ingressGateway", "traffic", "remoteClusters"})

    cluster: Cluster
    """The Kubernetes cluster."""
    istio: Istio
    """Istio's control plane."""
    east_west_gateway: EastWestGateway = EastWestGateway()
    """The gateway through which VMs reach istiod and services."""
    hosts: Hosts
    """What holds for every VM."""
    workloads: Mapping[ServiceName, Workload] = {}
    """The workloads by name."""
    ssh_private_key: SecretStr | None = None
    """The private key for all VMs without a `privateKeyFile`, unencrypted: `pulumi config set --secret sshPrivateKey`."""
