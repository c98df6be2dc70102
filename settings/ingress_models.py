"""The ingress gateway, as a stack file describes it; attribute docstrings are the configuration reference."""

from settings.model import Model


class IngressGateway(Model):
    """The gateway through which clients outside the mesh reach its services."""

    enabled: bool = False
    """Whether there is one."""
