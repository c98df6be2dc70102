"""Namespaces of the mesh, and who may talk in them; attribute docstrings are the configuration reference."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from settings.access_models import AccessRule
from settings.mesh_scalars import Injection
from settings.model import Model
from settings.scalars import LabelKey, LabelValue

MutualTlsMode = Literal["STRICT", "PERMISSIVE", "DISABLE"]

RESERVED = frozenset({"default", "istio-system", "kube-node-lease", "kube-public", "kube-system"})
"""Namespaces that are there without the program."""


class Namespace(Model):
    """A namespace of the mesh: a workload's, or a further one, which the program makes.

    When a further one is taken out of the stack, it is deleted with all that is in it.
    """

    injection: Injection | None = None
    """Which of its pods get a sidecar: `enabled`: all, by the control plane of the stack; `disabled`: none; `byPod`:
    those with the label `sidecar.istio.io/inject: "true"`; else all, by the control plane of that revision or tag.
    Without it `disabled` in the namespace of a workload, where nothing else but `byPod` is taken, and `enabled` in
    others."""
    labels: Mapping[LabelKey, LabelValue] = {}
    """Labels of the namespace."""
    mutual_tls: MutualTlsMode | None = None
    """What sidecars in it take: `STRICT`: mutual TLS only; `PERMISSIVE`: plain text too; `DISABLE`: plain text only.
    Without it what holds in the mesh."""
    access: Annotated[Sequence[AccessRule], Field(max_length=512)] | None = None
    """Who may reach what is in it: whom one of the rules lets in, here or in the workload's `access`. `[]`: nobody.
    Without it everybody."""
