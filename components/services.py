"""A host that is no Kubernetes Service: a ServiceEntry over VMs and pods, over fixed endpoints, or outside the mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi

from components.common import ISTIO_API
from components.kubernetes_object import kubernetes_object


@dataclass(frozen=True, kw_only=True)
class ServicePort:
    """A port of a service."""

    number: int
    protocol: str = ""
    """Empty: sidecars find out themselves. Unlike that of a Kubernetes Service, the port's name says nothing here
    (`convertPort` in `pilot/pkg/serviceregistry/serviceentry/conversion.go`)."""
    target: int | None = None
    """Port at which endpoints answer that say nothing else: a VM's port of that name goes before it."""


@dataclass(frozen=True, kw_only=True)
class MeshServiceArgs:
    """What answers under which hosts."""

    namespace: str
    hosts: Sequence[str]
    ports: Mapping[str, ServicePort]
    """By name."""
    location: str = "MESH_INTERNAL"
    resolution: str = "STATIC"
    selector: Mapping[str, str] | None = None
    """Labels of the VMs and pods in the namespace that answer."""
    endpoints: Sequence[Mapping[str, Any]] | None = None
    """What answers, in place of a selector, as in the manifest."""
    addresses: Sequence[str] = ()
    """Virtual addresses; without any, Istio allocates one."""
    export_to: Sequence[str] = ()
    subject_alt_names: Sequence[str] = ()
    after: Sequence[pulumi.Resource] = field(default=())
    """What must be there first: the control plane and the namespace."""


def service_entry(name: str, args: MeshServiceArgs) -> dict[str, Any]:
    """The ServiceEntry's manifest."""
    spec: dict[str, Any] = {
        "hosts": list(args.hosts),
        "location": args.location,
        "ports": [_port(port, args.ports[port]) for port in sorted(args.ports)],
        "resolution": args.resolution,
    }
    if args.selector is not None:
        spec["workloadSelector"] = {"labels": dict(args.selector)}
    if args.endpoints is not None:
        spec["endpoints"] = [dict(endpoint) for endpoint in args.endpoints]
    for key, values in (
        ("addresses", args.addresses),
        ("exportTo", args.export_to),
        ("subjectAltNames", args.subject_alt_names),
    ):
        if values:
            spec[key] = list(values)
    return {
        "apiVersion": ISTIO_API,
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": args.namespace},
        "spec": spec,
    }


def _port(name: str, port: ServicePort) -> dict[str, Any]:
    """A port of the manifest; nothing empty is sent."""
    said = {"protocol": port.protocol, "targetPort": port.target}
    return {"name": name, "number": port.number, **{key: value for key, value in said.items() if value}}


class MeshService(pulumi.ComponentResource):
    """A ServiceEntry, named like the component.

    Creates a ServiceEntry. A changed namespace or name replaces it.

    Outputs: `hosts`. istiod's webhook refuses what the CRD's schema lets pass, and its own words are the error.
    """

    hosts: Sequence[str]
    """The names under which the mesh reaches it."""

    def __init__(self, name: str, args: MeshServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("istiovm:index:MeshService", name, None, opts)
        child = pulumi.ResourceOptions(parent=self, depends_on=list(args.after))
        kubernetes_object(f"{name}-service-entry", service_entry(name, args), child)
        self.hosts = tuple(args.hosts)
        self.register_outputs({"hosts": list(self.hosts)})
