"""Hosts that the mesh knows by ServiceEntries; attribute docstrings are the configuration reference."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from settings.model import Model
from settings.scalars import DnsLabel, HostName, Port, PortName


class MeshService(Model):
    """A host of the mesh that is no Kubernetes Service: a ServiceEntry."""

    namespace: DnsLabel
    """Namespace of the ServiceEntry."""
    hosts: Annotated[Sequence[HostName], Field(min_length=1)]
    """Its full names."""
    ports: Annotated[Mapping[PortName, Port], Field(min_length=1)]
    """Its ports by name."""
