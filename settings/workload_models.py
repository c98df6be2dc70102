"""Workloads and their VMs as a stack file describes them; attribute docstrings are the configuration reference."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from settings.access_models import AccessRule
from settings.model import Model
from settings.problems import wrong
from settings.route_models import Route
from settings.scalars import (
    Address,
    Count,
    DnsLabel,
    DnsName,
    HeaderField,
    HostName,
    LabelKey,
    LabelValue,
    Name,
    Port,
    PortName,
    ReadableProxyConfig,
    Revision,
    Seconds,
    UrlPath,
)
from settings.sidecar_models import Rollout, Sidecar
from settings.ssh_models import VmSsh


class HttpHeader(Model):
    """A header that a probe sends."""

    name: HeaderField
    """Name of the header."""
    value: str
    """Its value."""


class HttpGet(Model):
    """A probe that asks over HTTP; healthy is a status from 200 to 399."""

    path: UrlPath = "/"
    """Path that is asked for."""
    port: Port
    """Port on the VM."""
    host: str | None = None
    """Host to connect to. Without it the VM's address."""
    scheme: Literal["HTTP", "HTTPS"] | None = None
    """`HTTP` (also without it) or `HTTPS`."""
    http_headers: Sequence[HttpHeader] | None = None
    """Headers to send."""


class TcpSocket(Model):
    """A probe that opens a TCP connection."""

    port: Port
    """Port on the VM."""
    host: str | None = None
    """Host to connect to. Without it the VM's address."""


class Exec(Model):
    """A probe that runs a command on the VM; healthy is exit code 0."""

    command: Annotated[Sequence[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    """The command and its arguments; no shell."""


class Probe(Model):
    """How the sidecar finds out whether the application is healthy: exactly one of httpGet, tcpSocket, exec."""

    refused: ClassVar[Mapping[str, tuple[str, str]]] = {
        "grpc": ("istiod's webhook refuses gRPC probes", "use httpGet, tcpSocket or exec")
    }

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
    """Its full name: `<service>.<namespace>.svc.cluster.local` is a Kubernetes Service; one outside of `cluster.local`
    is a ServiceEntry, with an address that Istio allocates, and resolved where a sidecar captures DNS. Without it a
    Kubernetes Service that is named like the workload."""
    ports: Annotated[Mapping[PortName, Port], Field(min_length=1)]
    """Ports of the service by name; each name is one of the workload's ports, to which it leads."""


_STATIC = {"address", "static", "weight", "labels"}
"""What can be said of a VM on which nothing is set up."""


class VirtualMachine(Model):
    """A VM of a workload; the map's key is its name."""

    address: Address
    """IPv4 address by which the deployer and the mesh reach the VM."""
    static: bool = False
    """Whether the VM gets no sidecar: nothing is set up on it and nobody logs in to it. The mesh's clients reach its
    application by the workload's service, in plain text, also where the mesh is STRICT; it cannot itself call what
    demands mutual TLS."""
    weight: Count | None = None
    """Share of the traffic that a static VM takes, beside 1 for every other VM of its workload."""
    host_key: str | None = None
    """The VM's public ssh host key, Ed25519 or ECDSA: `ssh-ed25519 AAAA...`. Without it the one in `knownHostsFile`."""
    ssh: VmSsh = VmSsh()
    """What differs from `hosts.ssh` for this VM."""
    routes: Sequence[Route] | None = None
    """Routes of this VM, in place of `hosts.routes`; `[]`: none."""
    labels: Annotated[Mapping[LabelKey, LabelValue], Field(max_length=100)] = {}
    """Labels of this VM, over the workload's."""
    remove_unreachable: bool | None = None
    """Whether this VM may leave although it does not answer, in place of `hosts.removeUnreachable`."""
    sidecar: Sidecar | None = None
    """The sidecar's packages for this VM, in place of the workload's: to try another version on one VM first."""

    @model_validator(mode="after")
    def _static_or_set_up(self) -> "VirtualMachine":
        if not self.static and self.weight is not None:
            raise wrong(
                "has a weight, which only a static VM can have: the others register themselves, all alike",
                "leave weight out, or split traffic by labels",
            )
        known = {name: field.alias for name, field in type(self).model_fields.items()}
        meaningless = [str(known[name]) for name in known if name in self.model_fields_set - _STATIC]
        if self.static and meaningless:
            raise wrong(
                f"is static, so nothing is set up on it, and has {', '.join(meaningless)} all the same",
                "leave these out, or static",
            )
        return self


class Workload(Model):
    """An application on VMs: a WorkloadGroup and its Service; the map's key is its name."""

    namespace: DnsLabel
    """Namespace of the workload. The program makes it."""
    service_account: DnsName
    """Service account whose identity the VMs bear. The program makes it."""
    labels: Annotated[Mapping[LabelKey, LabelValue], Field(max_length=100)] = {}
    """Labels of the workload and, with `app` and `version`, its canonical name and revision."""
    annotations: Annotated[Mapping[LabelKey, str], ReadableProxyConfig, Field(max_length=100)] = {}
    """Annotations of the WorkloadGroup, as `proxy.istio.io/config`."""
    network: Name | None = None
    """Network that the VMs are in. Without it `cluster.network`."""
    revision: Revision | None = None
    """Revision of the control plane that its VMs connect to, one of `istio.revisions`. Without it `istio.revision`."""
    ports: Annotated[Mapping[PortName, Port], Field(max_length=128)] = {}
    """Ports the application listens on, by name; `http`, `grpc-...`, `tcp-...` say the protocol. Without any the
    sidecar takes all inbound ports but ssh's."""
    probe: Probe | None = None
    """How the sidecar finds out whether the application is healthy. Without it no VM gets beyond `registered`."""
    service: Service | None = None
    """The name under which the mesh reaches the workload. Without it there is none."""
    access: Annotated[Sequence[AccessRule], Field(max_length=512)] | None = None
    """Who may reach the workload's VMs, and pods that bear its label: whom one of the rules lets in, here or in the
    namespace's `access`. `[]`: nobody. Without it everybody. Its VMs' sidecars see to it; static VMs have none."""
    sidecar: Sidecar | None = None
    """The sidecar's packages for the workload's VMs, in place of `hosts.sidecar`."""
    rollout: Rollout | None = None
    """How VMs that serve are changed, in place of `hosts.rollout`."""
    vms: Mapping[DnsLabel, VirtualMachine] = {}
    """The VMs by name: the host name, unique in the stack. A machine that gets another name, and nothing else, goes on
    serving; it is configured and enrolled under the new name, and then leaves under the old one."""

    @property
    def meshed_vms(self) -> dict[str, VirtualMachine]:
        """The VMs that get a sidecar, by name."""
        return {name: vm for name, vm in self.vms.items() if not vm.static}
