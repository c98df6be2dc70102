"""Hosts that the mesh knows by ServiceEntries; attribute docstrings are the configuration reference."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from settings.mesh_scalars import Locality, Machine, ServiceAddress, SubjectName, Visibility
from settings.model import Model
from settings.problems import wrong
from settings.scalars import (
    Count,
    DnsLabel,
    DnsName,
    HostName,
    LabelKey,
    LabelValue,
    Name,
    Port,
    PortName,
)


class ServiceEndpoint(Model):
    """A machine that answers, and that the stack has no workload for."""

    address: Machine
    """Its IPv4 address; with resolution DNS and DNS_ROUND_ROBIN also its name."""
    ports: Annotated[Mapping[PortName, Port], Field(min_length=1, max_length=128)] | None = None
    """Its ports, by the names of the service's, where they are others than `targetPorts` or `ports` say."""
    labels: Annotated[Mapping[LabelKey, LabelValue], Field(max_length=256)] = {}
    """Labels, by which traffic rules tell endpoints apart."""
    weight: Count | None = None
    """Share of the traffic, beside 1 for an endpoint that says none."""
    network: Name | None = None
    """Network that it is in. Without it that of whoever calls."""
    locality: Locality | None = None
    """Where it is, as `region/zone/subzone`."""
    service_account: DnsName | None = None
    """Service account whose identity its sidecar bears. Without it, it is reached in plain text."""


class MeshService(Model):
    """A host of the mesh that is no Kubernetes Service: a ServiceEntry."""

    namespace: DnsLabel
    """Namespace of the ServiceEntry, in which the selector finds VMs and pods."""
    hosts: Annotated[Sequence[HostName], Field(min_length=1, max_length=256)]
    """Its full names, outside of `cluster.local`. A client resolves them where its sidecar captures DNS: VMs do, pods
    with `istio.values.meshConfig.defaultConfig.proxyMetadata.ISTIO_META_DNS_CAPTURE: "true"`."""
    ports: Annotated[Mapping[PortName, Port], Field(min_length=1, max_length=256)]
    """Its ports by name; `http`, `grpc-...`, `tcp-...` say the protocol. A VM answers at its workload's port of that
    name."""
    target_ports: Mapping[PortName, Port] = {}
    """Ports, by the names of the service's, at which pods, and endpoints that say nothing else, answer where these are
    others."""
    location: Literal["MESH_INTERNAL", "MESH_EXTERNAL"] = "MESH_INTERNAL"
    """Whether what answers is part of the mesh, and so takes mutual TLS, or outside of it."""
    resolution: Literal["STATIC", "DNS", "DNS_ROUND_ROBIN", "NONE"] = "STATIC"
    """How sidecars find the endpoints: `STATIC`: by the selector, or as `endpoints` say. `DNS` and `DNS_ROUND_ROBIN`:
    by the names of the endpoints, without these by the hosts. `NONE`: the caller knows the address."""
    selector: Annotated[Mapping[LabelKey, LabelValue], Field(min_length=1, max_length=256)] | None = None
    """Labels of the VMs and pods in the namespace that answer."""
    pods: bool = False
    """Whether pods that this stack does not declare may answer. Without it a selector must match a workload of the
    stack."""
    endpoints: Annotated[Sequence[ServiceEndpoint], Field(min_length=1, max_length=4096)] | None = None
    """What answers, in place of a selector."""
    addresses: Annotated[Sequence[ServiceAddress], Field(max_length=256)] = ()
    """Virtual addresses; with resolution STATIC and NONE also ranges. Without any, Istio allocates one in
    240.240.0.0/16, but not with NONE."""
    export_to: Sequence[Visibility] = ()
    """Namespaces that see it; `.`: its own, `~`: none. Without any, or with `*`, all do."""
    subject_alt_names: Sequence[SubjectName] = ()
    """Names of which a server's certificate must bear one, as `spiffe://cluster.local/ns/shop/sa/reviews`."""

    @model_validator(mode="after")
    def _found_in_one_way(self) -> "MeshService":
        if self.selector is not None and self.endpoints is not None:
            raise wrong("has a selector and endpoints, which istiod refuses", "one of the two")
        if self.pods and self.selector is None:
            raise wrong("says pods, and has no selector that could find any", "a selector, or leave pods out")
        given = self.selector is not None or self.endpoints is not None
        if self.resolution == "STATIC" and not given:
            raise wrong(
                "has neither a selector nor endpoints, so nothing answers",
                "one of the two, or another resolution",
            )
        if self.resolution == "NONE" and given:
            raise wrong(
                "leaves it to the caller who answers (resolution NONE), and says it all the same",
                "resolution: STATIC, or leave selector and endpoints out",
            )
        if self.resolution != "STATIC" and self.selector is not None:
            raise wrong(f"has a selector, which needs no {self.resolution}", "resolution: STATIC")
        if self.resolution == "DNS_ROUND_ROBIN" and len(self.endpoints or ()) > 1:
            raise wrong("has several endpoints, of which DNS_ROUND_ROBIN takes one", "one endpoint, or resolution: DNS")
        return self
