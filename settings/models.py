"""The stack's configuration as typed, frozen models: what may be written, its defaults and its meaning.

Attribute docstrings speak to users: the configuration reference (`docs/configuration.md`) is made from them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import SecretStr, model_validator

from settings.model import Model
from settings.problems import wrong
from settings.scalars import (
    Digest,
    DnsLabel,
    DnsName,
    FilePath,
    Hub,
    Name,
    Place,
    Port,
    Revision,
    ServiceName,
    Tag,
    Url,
    User,
    Version,
    only,
)
from settings.workload_models import Workload

RELEASE_CHARTS = "https://blob.istio.io/istio-release/charts"


class Cluster(Model):
    """The Kubernetes cluster that holds the control plane."""

    name: DnsLabel
    """Name of the cluster in the mesh; becomes `global.multiCluster.clusterName`."""
    network: Name
    """Name of the network that the cluster's pods are in; labels the namespace `istio-system`."""
    kubeconfig: FilePath | None = None
    """Path of a kubeconfig. Without it the ambient one: `KUBECONFIG`, then `~/.kube/config`."""
    context: str | None = None
    """Context in the kubeconfig. Without it the current one."""


class Istio(Model):
    """Istio's control plane."""

    later: ClassVar[frozenset[str]] = frozenset({"caSecret"})

    install: Annotated[Literal["helm", "existing"], only("helm")] = "helm"
    """How the control plane gets there: `helm` installs it. `existing` is not supported yet."""
    version: Version
    """Istio's version: of the charts of a repository, and of the images where `tag` is not given."""
    charts: Place = RELEASE_CHARTS
    """Chart repository (`https://` or `oci://`), or a folder that holds `base`, `istiod` and `gateway`."""
    hub: Hub = "docker.io/istio"
    """Image repository; `global.hub`."""
    tag: Tag | None = None
    """Image tag; `global.tag`. Without it the version."""
    revision: Revision = ""
    """Revision of the control plane; empty: the default one."""
    mesh_id: Name = "mesh1"
    """Identifier of the mesh; `global.meshID`."""
    trust_domain: DnsName = "cluster.local"
    """Trust domain of all identities in the mesh; `meshConfig.trustDomain`."""
    values: Mapping[str, Any] = {}
    """More values for the chart `istiod`, merged under the ones this program sets."""


class EastWestGateway(Model):
    """The gateway through which VMs reach istiod and services."""

    later: ClassVar[frozenset[str]] = frozenset({"address", "nodePorts"})

    service: Annotated[Literal["LoadBalancer", "NodePort", "none"], only("LoadBalancer")] = "LoadBalancer"
    """Type of its Service. `NodePort` and `none` are not supported yet."""
    expose_istiod: Annotated[bool, only(True)] = True
    """Whether it passes 15012 and 15017 to istiod, which is how VMs reach it. `false` is not supported yet."""
    expose_services: bool = True
    """Whether it passes 15443 to the services in the mesh (`*.local`)."""
    values: Mapping[str, Any] = {}
    """More values for the chart `gateway`, merged under the ones this program sets."""


class Deb(Model):
    """A Debian package of the sidecar."""

    url: Url
    """Where the VM downloads the package: an http or https URL that the VM reaches."""
    sha256: Digest
    """SHA-256 of the package: 64 hex digits, or the path of a file as `sha256sum` writes it, with one line for it."""


class Packages(Model):
    """The sidecar's packages for one architecture."""

    later: ClassVar[frozenset[str]] = frozenset({"rpm"})

    deb: Deb
    """Package for Debian, Ubuntu and their like."""


class Sidecar(Model):
    """The sidecar's packages by architecture; a VM gets the one that fits it."""

    later: ClassVar[frozenset[str]] = frozenset({"file"})

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


class Hosts(Model):
    """What holds for every VM."""

    later: ClassVar[frozenset[str]] = frozenset({"routes", "istiodAddress"})

    sidecar: Sidecar
    """The sidecar's packages."""
    ssh: Ssh = Ssh()
    """How VMs are reached."""


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
    """The private key, without a passphrase, where no `privateKeyFile` is given. Always encrypted: `pulumi config set
    --secret sshPrivateKey`."""
