"""What must hold for the ingress gateway: its ports, its hosts and what they lead to, its certificates."""

from collections.abc import Iterator, Mapping

from settings.checks import ENVOY_PORTS, reserved_values
from settings.draft import Draft
from settings.ingress_models import IngressGateway, IngressHost, IngressTls
from settings.problems import Problem, join
from settings.service_hosts import CLUSTER_DOMAIN
from settings.services import ports_twice
from settings.traffic import mesh_host

_SECTION = "ingressGateway"
_VALUES = {
    "_internal_defaults_do_not_set": "give the keys below it at the top level",
    "labels.istio": "leave it out, it is ingressgateway",
    "name": "leave it out, it is istio-ingressgateway",
    "networkGateway": "leave it out, eastWestGateway is the one between networks",
    "nodeSelector": "give ingressGateway.nodeSelector",
    "revision": "give istio.revision",
    "service.annotations": "give ingressGateway.annotations",
    "service.ports": "give ingressGateway.ports",
    "service.type": "give ingressGateway.service",
}
_NAMESPACES = {"default", "kube-node-lease", "kube-public", "kube-system"}


def check_ingress(draft: Draft) -> Iterator[Problem]:
    """Yield what is wrong with the ingress gateway."""
    gateway = draft.ingress_gateway
    if gateway is None:
        return
    yield from reserved_values(gateway.values, _VALUES, _SECTION, "values")
    yield from _namespace(draft, gateway)
    yield from _ports(gateway)
    for name, host in gateway.hosts.items():
        yield from _open(gateway, name, host)
        yield from _destination(draft, name, host)


def destination_port(ports: Mapping[str, int], host: IngressHost) -> int | None:
    """Return the port that a host's requests go to, of a service's; None: the only one of one that nobody knows."""
    return host.port or (next(iter(ports.values())) if len(ports) == 1 else None)


def _namespace(draft: Draft, gateway: IngressGateway) -> Iterator[Problem]:
    """Yield that the gateway's proxy would not come to be there."""
    path, right = f"{_SECTION}.namespace", "istio-system, or a namespace of its own, which the program makes"
    if gateway.namespace in _NAMESPACES:
        yield Problem(path=path, what="the cluster's own namespace", got=gateway.namespace, right=right)
    for name, workload in draft.workloads.items():
        if workload.namespace == gateway.namespace != "istio-system":
            what = f"the namespace of workloads.{name}, in which no pod gets a proxy"
            yield Problem(path=path, what=what, got=gateway.namespace, right=right)
            return
    asked = draft.namespaces.get(gateway.namespace)
    if asked is not None and asked.injection == "disabled":
        where = join("namespaces", gateway.namespace, "injection")
        what = "the ingress gateway is there, whose pods would not get the proxy that they are"
        yield Problem(path=where, what=what, got=asked.injection, right="byPod, or another namespace for it")


def _ports(gateway: IngressGateway) -> Iterator[Problem]:
    """Yield ports that cannot be opened, and a gateway without any."""
    ports = gateway.ports.model_dump(by_alias=True, exclude_none=True)
    node_ports = gateway.node_ports.model_dump(by_alias=True, exclude_none=True)
    if not ports.keys() - {"status"}:
        right = "http or https or both, or leave it out"
        yield Problem(path=f"{_SECTION}.ports", what="opens neither http nor https", right=right)
    yield from ports_twice(ports, _SECTION, "ports")
    yield from ports_twice(node_ports, _SECTION, "nodePorts")
    for name in ports.keys() - {"status"}:
        if ports[name] in ENVOY_PORTS:
            what = f"one of the proxy's own ports ({ENVOY_PORTS[0]}-{ENVOY_PORTS[-1]})"
            yield Problem(path=join(_SECTION, "ports", name), what=what, got=ports[name], right="another one")
    if node_ports and gateway.service != "NodePort":
        what = f"only for service: NodePort, not {gateway.service}"
        yield Problem(path=f"{_SECTION}.nodePorts", what=what, right="leave it out, or give service: NodePort")
    for name in node_ports.keys() - ports.keys():
        path, right = join(_SECTION, "nodePorts", name), f"give ingressGateway.ports.{name}, or leave it out"
        yield Problem(path=path, what="leads to a port that is not open", got=node_ports[name], right=right)


def _open(gateway: IngressGateway, name: str, host: IngressHost) -> Iterator[Problem]:
    """Yield that a host has no port at which it could be asked for, or not the certificates for it."""
    path, ports = (_SECTION, "hosts", name), gateway.ports
    if host.tls is None:
        if ports.http is None:
            right = "give ingressGateway.ports.http, or the host tls"
            yield Problem(path=join(*path), what="is asked for over plain HTTP, for which no port is open", right=right)
        return
    if ports.https is None:
        right = "give ingressGateway.ports.https"
        yield Problem(path=join(*path, "tls"), what="needs HTTPS, for which no port is open", right=right)
    if host.tls.https_redirect and ports.http is None:
        where = join(*path, "tls", "httpsRedirect")
        right = "give ingressGateway.ports.http, or leave it out"
        yield Problem(path=where, what="redirects from plain HTTP, for which no port is open", right=right)
    yield from _clients(gateway, host.tls, *path)


def _clients(gateway: IngressGateway, tls: IngressTls, *path: str) -> Iterator[Problem]:
    """Yield that clients must show certificates, and nothing says whose."""
    certificate = gateway.certificates.get(tls.secret)
    if tls.mode == "MUTUAL" and certificate is not None and certificate.client_ca_file is None:
        where = join(_SECTION, "certificates", tls.secret, "clientCaFile")
        what = f"missing, and {join(*path, 'tls', 'mode')} is MUTUAL"
        yield Problem(path=where, what=what, right="the certificates that clients' certificates must come from")


def _destination(draft: Draft, name: str, host: IngressHost) -> Iterator[Problem]:
    """Yield that a host leads nowhere, as far as that can be seen here."""
    path = (_SECTION, "hosts", name)
    found = mesh_host(host.to, draft.workloads, draft.services)
    if found is None:
        right = f"a host of this stack, or a Service's full name, <service>.<namespace>.{CLUSTER_DOMAIN}"
        yield Problem(path=join(*path, "to"), what="no host of the mesh", got=host.to, right=right)
        return
    ports = sorted(found.ports.values())
    known = ", ".join(map(str, ports))
    if host.port is None and len(ports) > 1:
        yield Problem(path=join(*path, "port"), what=f"missing, {host.to} has several", right=f"one of {known}")
    elif host.port is not None and ports and host.port not in ports:
        yield Problem(path=join(*path, "port"), what=f"no port of {host.to}", got=host.port, right=f"one of {known}")
