"""The gateway through which clients outside the mesh reach its services: hosts, TLS, and the nodes that it runs on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pulumi
import pulumi_command as command
import pulumi_kubernetes as kubernetes

from cluster.objects import Get
from components.common import observed, when_there
from components.gateways import manifest
from components.kubectl import ClusterAccess, kubectl
from components.kubernetes_object import kubernetes_object
from components.values import ISTIO_NAMESPACE, chart_reference, deep_merge, plain_revision
from components.ways import Points, points_of, read_points

RELEASE = "istio-ingressgateway"
SELECTOR = {"istio": "ingressgateway"}
GATEWAY = "ingress"
"""Name of the Gateway."""
STATUS_PORT = 15021
"""Where a gateway's pod tells whether it is ready."""


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What a TLS Secret holds."""

    certificate: str
    """PEM."""
    private_key: pulumi.Input[str]
    """PEM; secret."""
    client_ca: str | None = None
    """PEM: what clients' certificates must come from."""


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host that the gateway answers for."""

    http: Sequence[Mapping[str, Any]]
    """`spec.http` of its VirtualService: where its requests go."""
    secret: str | None = None
    """Name of the Secret with its certificate; None: plain HTTP."""
    mode: Literal["SIMPLE", "MUTUAL"] = "SIMPLE"
    redirect: bool = False
    """Whether plain HTTP is answered with a redirect to HTTPS."""


@dataclass(frozen=True, kw_only=True)
class IngressGatewayArgs:
    """What the gateway is and what it answers for."""

    access: ClusterAccess
    get: Get
    """The cluster."""
    charts: str
    """Chart repository or folder with `gateway`."""
    version: str
    revision: str = ""
    namespace: str = ISTIO_NAMESPACE
    make_namespace: bool = False
    service: Literal["LoadBalancer", "NodePort", "ClusterIP"] = "LoadBalancer"
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Of its Service."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    node_labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Node -> labels that it gets."""
    ports: Mapping[str, int]
    """The ports of its Service, by `http`, `https` and `status`."""
    node_ports: Mapping[str, int] = field(default_factory=dict)
    """Ports of the nodes that lead to them; Kubernetes chooses the others."""
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    """By the name of the Secret."""
    hosts: Mapping[str, Host] = field(default_factory=dict)
    """By name, which may begin with `*.`."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """More values for the chart, under those that the other fields make."""
    after: Sequence[pulumi.Resource] = ()
    """What must be there first: the control plane, which injects the gateway's proxy."""


def ingress_values(args: IngressGatewayArgs) -> dict[str, Any]:
    """Values of the chart `gateway`: the user's, with the program's over them; no port but those that are asked for."""
    ports = [
        {
            "name": "status-port" if name == "status" else name,
            "port": port,
            "targetPort": STATUS_PORT if name == "status" else port,
            "protocol": "TCP",
            **({"nodePort": args.node_ports[name]} if name in args.node_ports else {}),
        }
        for name, port in args.ports.items()
    ]
    own: dict[str, Any] = {
        "revision": plain_revision(args.revision),
        "service": {"type": args.service, "ports": ports, "annotations": dict(args.annotations)},
        "nodeSelector": dict(args.node_selector),
    }
    return deep_merge(args.values, own)


def ingress_servers(ports: Mapping[str, int], hosts: Mapping[str, Host]) -> list[dict[str, Any]]:
    """Servers of the Gateway.

    Hosts with one certificate share a server: a browser takes a connection for every host that its certificate is for,
    and of another server it would be told 404 (Istio's "Common problems", connection reuse).
    """
    plain = sorted(name for name, host in hosts.items() if host.secret is None)
    redirected = sorted(name for name, host in hosts.items() if host.secret and host.redirect)
    servers = []
    if plain:
        servers.append({"port": _port("http", ports["http"]), "hosts": plain})
    if redirected:
        port = _port("http-redirect", ports["http"])
        servers.append({"port": port, "hosts": redirected, "tls": {"httpsRedirect": True}})
    shared: dict[tuple[str, str], list[str]] = {}
    for name, host in sorted(hosts.items()):
        if host.secret is not None:
            shared.setdefault((host.secret, host.mode), []).append(name)
    for (secret, mode), names in sorted(shared.items()):
        port = _port(f"https-{secret}-{mode.lower()}", ports["https"])
        servers.append({"port": port, "hosts": names, "tls": {"mode": mode, "credentialName": secret}})
    return servers


def _port(name: str, number: int) -> dict[str, Any]:
    return {"name": name, "number": number, "protocol": "HTTPS" if name.startswith("https") else "HTTP"}


def host_rules(rules: Sequence[Mapping[str, Any]], to: str, port: int | None) -> list[dict[str, Any]]:
    """`spec.http` for a host whose requests go to a service of the mesh, by that service's own traffic rules.

    In the mesh a destination without a port means the port that was asked for; at a gateway that is the gateway's.
    """
    known = {"port": {"number": port}} if port else {}
    found = [dict(rule) for rule in rules] or [{"route": [{"destination": {"host": to}}]}]
    for rule in found:
        if "route" in rule:
            rule["route"] = [{**route, "destination": {**known, **route["destination"]}} for route in rule["route"]]
        if "mirrors" in rule:
            rule["mirrors"] = [{**each, "destination": {**known, **each["destination"]}} for each in rule["mirrors"]]
    return found


def host_object_name(host: str) -> str:
    """Name of a host's VirtualService; no other host has the same."""
    return f"{GATEWAY}.{host[2:]}" if host.startswith("*.") else f"{GATEWAY}-{host}"


def ingress_routes(namespace: str, name: str, host: Host) -> dict[str, Any]:
    """The VirtualService that leads a host's requests into the mesh."""
    spec = {"hosts": [name], "gateways": [f"{namespace}/{GATEWAY}"], "http": [dict(route) for route in host.http]}
    return manifest("VirtualService", host_object_name(name), spec, namespace)


def label_commands(access: ClusterAccess, node: str, key: str, value: str) -> dict[str, Any]:
    """Inputs of the command that stands for one label of a node.

    The first time it fails where the node has another value: that is somebody else's, and would be lost in the end.
    A node that has gone takes its labels with it, so taking the label off again looks for the node.
    """
    label = f"{key}={value}"
    return {
        "create": kubectl(access, "label", "node", node, label),
        "update": kubectl(access, "label", "node", node, label, "--overwrite"),
        "delete": kubectl(access, "label", "nodes", f"--field-selector=metadata.name={node}", f"{key}-"),
    }


def ingress_address(points: Points) -> str:
    """What the load balancer is reached at: its first IP by number, else its first name."""
    ips, names = points_of(points)
    if not ips and not names:
        raise pulumi.RunError(
            f"ingressGateway: its load balancer has neither an IP nor a host name: {json.dumps(points)}, see what the "
            "cloud says of it, or give ingressGateway.service: NodePort"
        )
    return [*ips, *names][0]


class IngressGateway(pulumi.ComponentResource):
    """An ingress gateway and what it answers for.

    Creates a Chart `gateway`, a Command for each label of a node, a Secret for each certificate, a Gateway, a
    VirtualService for each host and, where it has one of its own, the Namespace. Another namespace replaces all but the
    labels.

    Outputs: `address`, the load balancer's IP or host name; None for another kind of Service.
    """

    address: pulumi.Output[str] | None
    """Where clients reach it; unknown in a preview until the cluster has given it."""

    def __init__(self, name: str, args: IngressGatewayArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:IngressGateway", name, None, opts)
        after = [*args.after, *_namespace(name, args, self)]
        child = pulumi.ResourceOptions(parent=self, depends_on=after)
        chart = kubernetes.helm.v4.Chart(
            f"{name}-chart",
            name=RELEASE,
            namespace=args.namespace,
            values=ingress_values(args),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[*after, *_node_labels(name, args, self)]),
            **chart_reference(args.charts, "gateway", args.version),
        )
        for secret, certificate in args.certificates.items():
            _secret(f"{name}-{secret}-secret", secret, args.namespace, certificate, child)
        if args.hosts:
            spec = {"selector": SELECTOR, "servers": ingress_servers(args.ports, args.hosts)}
            kubernetes_object(f"{name}-gateway", manifest("Gateway", GATEWAY, spec, args.namespace), child)
        for host, asked in args.hosts.items():
            kubernetes_object(f"{name}-{host}-routes", ingress_routes(args.namespace, host, asked), child)
        self.address = _address(args, chart) if args.service == "LoadBalancer" else None
        self.register_outputs({"address": self.address})


def _namespace(name: str, args: IngressGatewayArgs, parent: pulumi.Resource) -> list[pulumi.Resource]:
    if not args.make_namespace:
        return []
    opts = pulumi.ResourceOptions(parent=parent)
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": args.namespace}}
    return [kubernetes_object(f"{name}-namespace", namespace, opts)]


def _node_labels(name: str, args: IngressGatewayArgs, parent: pulumi.Resource) -> list[pulumi.Resource]:
    return [
        command.local.Command(
            f"{name}-node-{node}/{key}",
            **label_commands(args.access, node, key, value),
            logging=command.local.Logging.NONE,
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(parent=parent),
        )
        for node, labels in sorted(args.node_labels.items())
        for key, value in sorted(labels.items())
    ]


def _secret(name: str, secret: str, namespace: str, certificate: Certificate, opts: pulumi.ResourceOptions) -> None:
    data: dict[str, pulumi.Input[str]] = {"tls.crt": certificate.certificate, "tls.key": certificate.private_key}
    if certificate.client_ca is not None:
        data["ca.crt"] = certificate.client_ca
    metadata = {"name": secret, "namespace": namespace}
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls"}
    kubernetes_object(name, manifest | {"stringData": data}, opts)


def _address(args: IngressGatewayArgs, chart: pulumi.Resource) -> pulumi.Output[str]:
    missing = f"service {args.namespace}/{RELEASE} has no load balancer"
    return when_there(observed(missing, lambda: read_points(args.get, args.namespace, RELEASE), chart), ingress_address)
