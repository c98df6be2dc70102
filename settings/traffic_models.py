"""Traffic rules, as a stack file describes them; attribute docstrings are the configuration reference."""

from settings.model import Model


class HostTraffic(Model):
    """How the mesh sends traffic to a host: its DestinationRule and VirtualService."""
