"""Routes of VMs as a stack file describes them: workloads and what holds for every VM both have them."""

import ipaddress

from pydantic import model_validator

from settings.model import Model
from settings.problems import wrong
from settings.scalars import Address, Network


class Route(Model):
    """A way from a VM into the cluster's network."""

    to: Network
    """Range that it leads to: the cluster's services or pods."""
    via: Address
    """Address of the router, a neighbour of the VM: a node of the cluster, or a VPN's peer."""

    @model_validator(mode="after")
    def _router_outside(self) -> "Route":
        if ipaddress.IPv4Address(self.via) in ipaddress.IPv4Network(self.to):
            raise wrong(f"leads to its own router {self.via}", f"a router outside of {self.to}")
        return self
