"""The stack's configuration as typed, frozen models: what may be written, its defaults and its meaning.

Attribute docstrings speak to users: the configuration reference (`docs/configuration.md`) is made from them.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import SecretStr

from settings.chart_values import Writable
from settings.ingress_models import IngressGateway
from settings.istio_models import CaSecret, Cni
from settings.model import Model
from settings.namespace_models import MutualTlsMode, Namespace
from settings.revision_models import ControlPlaneRevision
from settings.route_models import Route
from settings.scalars import (
    Address,
    ConfirmSeconds,
    DnsLabel,
    DnsName,
    FilePath,
    HostName,
    Hub,
    Name,
    NamedRevision,
    Place,
    Port,
    Revision,
    ServiceName,
    Tag,
    TokenMinutes,
    Version,
)
from settings.service_models import MeshService
from settings.sidecar_models import Rollout, Sidecar
from settings.ssh_models import Ssh
from settings.traffic_models import HostTraffic
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

    install: Literal["helm", "existing"] = "helm"
    """How the control plane gets there: `helm` installs it, `existing` takes one that somebody else has installed into
    `istio-system`, and leaves it there. Only `version`, `charts` (of gateways), `revision`, `meshId`, `trustDomain`,
    `allowPatches` and `registrationGuard` are for that one: it must be as they say, and what is not given is read."""
    allow_patches: bool = False
    """With `install: existing`, whether istiod's registration and health checks of VMs may be switched on where they
    are off, which restarts it. They go off again with the stack."""
    preset: Literal["default", "minimal", "remote", "lab"] = "default"
    """Values of Istio's charts that the stack starts from: `default` (the charts' own), `minimal` (one istiod and one
    pod a gateway, not scaled, with small requests), `remote` (the cluster's istiod is elsewhere, at the address
    `values.global.remotePilotAddress`), `lab` (for proxies of Envoy's core build, as the lab's)."""
    values_files: Sequence[FilePath] = ()
    """Files with values for the chart `istiod`: each is merged over those before it, the first over the preset, and
    `values` over all of them."""
    version: Version = ""
    """Istio's version: of the charts of a repository, and of the images where `tag` is not given. Only with
    `install: existing` it may be left out."""
    charts: Place = RELEASE_CHARTS
    """Chart repository (`https://` or `oci://`), or a folder that holds `base`, `istiod` and `gateway`."""
    hub: Hub = "docker.io/istio"
    """Image repository; `global.hub`."""
    tag: Tag | None = None
    """Image tag; `global.tag`. Without it the version."""
    revision: Revision = ""
    """Revision of the control plane; empty: the default one."""
    revision_tags: Sequence[DnsLabel] = ()
    """Revision tags that point at it: names for namespaces (label `istio.io/rev`), which stay when they are made to
    point at another revision. VMs name revisions, not tags."""
    revisions: Mapping[NamedRevision, ControlPlaneRevision] = {}
    """Further control planes beside the main one."""
    mesh_id: Name = "mesh1"
    """Identifier of the mesh; `global.meshID`."""
    trust_domain: DnsName = "cluster.local"
    """Trust domain of all identities in the mesh; `meshConfig.trustDomain`."""
    ca_secret: CaSecret | None = None
    """The authority that istiod signs with, as Secret `cacerts`, made before istiod. Without it istiod makes an
    authority of its own, or takes the `cacerts` that is there."""
    cni: Cni = Cni()
    """Istio's CNI plugin."""
    registration_guard: bool = True
    """Whether the cluster refuses VMs that register otherwise than the stack declares them: at another address, with
    other labels, in another network or locality. Without that whoever has a VM's token, or is root on a VM, can
    register as another application, and take its traffic. `false` where VMs that are not in this stack register under
    its workloads too."""
    mutual_tls: MutualTlsMode | None = None
    """What sidecars of the whole mesh take: `STRICT`: mutual TLS only; `PERMISSIVE`: plain text too; `DISABLE`: plain
    text only. A namespace's own `mutualTls` goes before it. Without it Istio's default: `PERMISSIVE`."""
    values: Annotated[Mapping[str, Any], Writable] = {}
    """More values for the chart `istiod`, merged over `preset` and `valuesFiles`, and under the ones this program
    sets."""
    remove_crds: bool = False
    """Whether Istio's CRDs go when the stack is destroyed. Destroying stops where objects of these kinds are left that
    the stack did not make: they would go, too. `false`: the CRDs stay, as Helm leaves them."""


class NodePorts(Model):
    """Ports of the nodes that lead to the gateway; Kubernetes chooses those that are not given."""

    istiod: Port | None = None
    """Leads to istiod (15012)."""
    webhook: Port | None = None
    """Leads to istiod's webhooks (15017)."""
    services: Port | None = None
    """Leads to the services in the mesh (15443)."""
    status: Port | None = None
    """Leads to the gateway's readiness (15021)."""


class EastWestGateway(Model):
    """The gateway through which VMs reach istiod and services."""

    service: Literal["LoadBalancer", "NodePort", "none"] = "LoadBalancer"
    """Type of its Service. `none`: there is no gateway, and VMs reach istiod's Service over `hosts.routes`, or at
    `hosts.istiodAddress`."""
    address: Address | None = None
    """Address at which VMs reach it. Without it the load balancer's; with `NodePort` the ExternalIP of the one node
    that has one, else the InternalIP of the only node."""
    node_ports: NodePorts = NodePorts()
    """Ports that the nodes open for it, with `NodePort`."""
    expose_istiod: bool = True
    """Whether it passes 15012 and 15017 to istiod, which is how VMs reach it. `false`: they reach it as without a
    gateway."""
    expose_services: bool = True
    """Whether it passes 15443 to the services in the mesh (`*.local`)."""
    values: Annotated[Mapping[str, Any], Writable] = {}
    """More values for the chart `gateway`, merged under the ones this program sets."""

    @property
    def leads_to_istiod(self) -> bool:
        """Whether VMs reach istiod through it."""
        return self.service != "none" and self.expose_istiod


class Hosts(Model):
    """What holds for every VM."""

    sidecar: Sidecar
    """The sidecar's packages."""
    istiod_address: Address | None = None
    """Address at which VMs reach istiod. Without it the gateway's; where no gateway leads to istiod, its Service's."""
    routes: Sequence[Route] = ()
    """Ways into the cluster's network, which each VM sets up when it boots; a VM's own `routes` replace them."""
    existing_sidecar: Literal["refuse", "adopt"] = "refuse"
    """What to do with a VM that has an Istio sidecar which this program did not install: `refuse` the VM and leave it
    as it is, or `adopt` the sidecar. When the VM leaves, an adopted one stays, with the files that it had; its version
    stays too where it has become another one."""
    token_minutes: TokenMinutes = 60
    """Life in minutes of the token that a VM enrols with once; afterwards its certificate renews itself. A change mints
    new ones."""
    confirm_within: ConfirmSeconds = 120
    """Seconds after a start of the sidecar in which a new ssh connection must confirm it. Else the VM takes back by
    itself what the start has changed (redirection, DNS capture, its block in `/etc/hosts`): nobody is locked out."""
    remove_unreachable: bool = False
    """Whether a VM may leave the stack, or go with it, although nothing answers at its address. Its entry and its token
    go, and a warning says what remains on it. Takes effect with an `up`, so run one before the VM is taken out."""
    rollout: Rollout = Rollout()
    """How VMs that serve are changed."""
    ssh: Ssh = Ssh()
    """How VMs are reached."""
    observe: bool = False
    """Whether previews and runs look at every VM over ssh, all at once and within 10 s: what somebody has changed there
    shows in the plan, and `up` puts it back. A VM that does not answer is reported and left as it is. Without it, no
    connection is opened to a VM that the stack does not change."""


class StackConfig(Model):
    """Everything a stack file may say under `istio-vm-mesh:`."""

    later: ClassVar[frozenset[str]] = frozenset({"remoteClusters"})

    cluster: Cluster
    """The Kubernetes cluster."""
    istio: Istio
    """Istio's control plane."""
    east_west_gateway: EastWestGateway = EastWestGateway()
    """The gateway through which VMs reach istiod and services."""
    ingress_gateway: IngressGateway = IngressGateway()
    """The gateway through which clients outside the mesh reach its services."""
    hosts: Hosts
    """What holds for every VM."""
    namespaces: Mapping[DnsLabel, Namespace] = {}
    """Namespaces by name: those that the program makes beside the workloads', and what holds in any of them."""
    workloads: Mapping[ServiceName, Workload] = {}
    """The workloads by name."""
    services: Mapping[DnsLabel, MeshService] = {}
    """Hosts that are no Kubernetes Services, by the name of their ServiceEntry."""
    traffic: Mapping[HostName, HostTraffic] = {}
    """Traffic rules by the full name of the host that they are about."""
    renew: Sequence[DnsLabel] = ()
    """VMs that get a new token, once: the old one is revoked. A name that stays here does nothing more, nor does taking
    it out; to renew again, take it out, `up`, and name it again."""
    ssh_private_key: SecretStr | None = None
    """The private key, without a passphrase, where no `privateKeyFile` is given. Always encrypted: `pulumi config set
    --secret sshPrivateKey`."""
