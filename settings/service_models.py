"""Hosts that the mesh knows by ServiceEntries; attribute docstrings are the configuration reference."""

from settings.model import Model


class MeshService(Model):
    """A host of the mesh that is no Kubernetes Service: a ServiceEntry."""
