"""What the ingress gateway gets of a stack's settings: a service's own traffic rules hold there too."""

from collections.abc import Mapping

import pulumi

from arguments.control_plane import cluster_access
from arguments.traffic import policy_args
from cluster.objects import Get
from components.control_plane import Mesh
from components.ingress import Certificate, Host, IngressGatewayArgs, host_rules
from components.presets import PRESETS, layered
from components.values import ISTIO_NAMESPACE
from components.vm_namespace import VmNamespace
from migration.decision import Step
from settings import IngressHost, Settings, destination_port, mesh_host


def ingress_args(
    stack: Settings, get: Get, control_plane: Mesh, namespaces: Mapping[str, VmNamespace], moves: Mapping[str, Step]
) -> IngressGatewayArgs | None:
    """The ingress gateway that the stack asks for, if any."""
    asked = stack.ingress_gateway
    if not asked.enabled:
        return None
    place = namespaces.get(asked.namespace)
    return IngressGatewayArgs(
        access=cluster_access(stack),
        get=get,
        charts=stack.istio.charts,
        version=stack.istio.version,
        revision=stack.istio.revision,
        namespace=asked.namespace,
        make_namespace=place is None and asked.namespace != ISTIO_NAMESPACE,
        service=asked.service,
        annotations=asked.annotations,
        node_selector=asked.node_selector,
        node_labels=asked.node_labels,
        ports={name: port for name, port in asked.ports if port},
        node_ports={name: port for name, port in asked.node_ports if port},
        certificates={
            name: Certificate(
                certificate=found.certificate,
                private_key=pulumi.Output.secret(found.private_key.get_secret_value()),
                client_ca=found.client_ca,
            )
            for name, found in stack.certificates.items()
        },
        hosts={name: _host(stack, host, control_plane, namespaces, moves) for name, host in asked.hosts.items()},
        values=layered(PRESETS[stack.istio.preset].gateway, asked.values),
        after=[*control_plane.ready, *(place.ready if place else ())],
    )


def _host(
    stack: Settings,
    asked: IngressHost,
    control_plane: Mesh,
    namespaces: Mapping[str, VmNamespace],
    moves: Mapping[str, Step],
) -> Host:
    """A host of the ingress gateway."""
    found = mesh_host(asked.to, stack.workloads, stack.services)
    ruled = asked.to in stack.traffic
    rules = policy_args(stack, asked.to, control_plane, namespaces, moves).rules if ruled else ()
    return Host(
        http=host_rules(rules, asked.to, destination_port(found.ports if found else {}, asked)),
        secret=asked.tls.secret if asked.tls else None,
        mode=asked.tls.mode if asked.tls else "SIMPLE",
        redirect=asked.tls is not None and asked.tls.https_redirect,
    )
