"""The ingress gateway, as a stack file describes it; attribute docstrings are the configuration reference."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from settings.chart_values import Writable
from settings.model import Model
from settings.scalars import DnsLabel, DnsName, FilePath, HostName, IngressHostName, LabelKey, LabelValue, Port


class IngressPorts(Model):
    """Ports of the ingress gateway: only those that are given are open."""

    http: Port | None = None
    """Takes plain HTTP."""
    https: Port | None = None
    """Takes HTTPS for the hosts that have `tls`."""
    status: Port | None = None
    """Leads to the gateway's readiness (`/healthz/ready`), for load balancers that ask there; Kubernetes itself asks
    the pods."""


class ServerCertificate(Model):
    """A certificate from files, for which the program makes a Secret in the gateway's namespace."""

    certificate_file: FilePath
    """Path of the certificate, PEM, with those of its issuers below it. It must be for each host that uses it."""
    private_key_file: FilePath
    """Path of its private key: PEM, unencrypted, readable by its owner only."""
    client_ca_file: FilePath | None = None
    """Path of the certificates, PEM, that clients' certificates must come from, for hosts with `mode: MUTUAL`."""


class IngressTls(Model):
    """How the ingress gateway speaks TLS for a host, and that it speaks nothing else for it."""

    secret: DnsName
    """Name of a Secret in the gateway's namespace with the certificate: one that is there (of type `kubernetes.io/tls`,
    for `MUTUAL` with `ca.crt` too), or one of `ingressGateway.certificates`."""
    mode: Literal["SIMPLE", "MUTUAL"] = "SIMPLE"
    """`MUTUAL`: clients must show a certificate too."""
    https_redirect: bool = False
    """Whether plain HTTP for the host is answered with a redirect to HTTPS. Without it, nothing answers there."""


class IngressHost(Model):
    """A host that clients outside the mesh ask for, and where its requests go."""

    to: HostName
    """Full name of the service in the mesh that gets the requests."""
    port: Port | None = None
    """Port of that service. Without it the only one that it has."""
    tls: IngressTls | None = None
    """HTTPS in place of plain HTTP."""


class IngressGateway(Model):
    """The gateway through which clients outside the mesh reach its services."""

    enabled: bool = False
    """Whether there is one."""
    namespace: DnsLabel = "istio-system"
    """Namespace of the gateway and its Secrets. The program makes it."""
    service: Literal["LoadBalancer", "NodePort", "ClusterIP"] = "LoadBalancer"
    """Type of its Service."""
    annotations: Mapping[LabelKey, str] = {}
    """Annotations of its Service, by which clouds are told what load balancer to make."""
    node_selector: Mapping[LabelKey, LabelValue] = {}
    """Labels of the nodes that it may run on."""
    node_labels: Mapping[DnsName, Mapping[LabelKey, LabelValue]] = {}
    """Labels that the program gives to nodes, by the node's name, and takes off again when they are not here any more.
    A node that has such a label with another value already is refused."""
    ports: IngressPorts = IngressPorts(http=80, https=443)
    """Ports of its Service. Without it http 80 and https 443."""
    node_ports: IngressPorts = IngressPorts()
    """Ports of the nodes that lead to them, with `NodePort`; Kubernetes chooses those that are not given."""
    certificates: Mapping[DnsName, ServerCertificate] = {}
    """Certificates from files, by the name of the Secret that the program makes."""
    hosts: Mapping[IngressHostName, IngressHost] = {}
    """Hosts that it answers for, by name; `*.example.com` stands for all below `example.com`."""
    values: Annotated[Mapping[str, Any], Writable] = {}
    """More values for the chart `gateway`, merged under the ones this program sets."""
