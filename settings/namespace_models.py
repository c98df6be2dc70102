"""Namespaces of the mesh, and who may talk in them; attribute docstrings are the configuration reference."""

from settings.model import Model


class Namespace(Model):
    """A namespace that the program makes, beside those of the workloads on VMs."""
