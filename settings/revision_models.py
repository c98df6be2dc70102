"""Further control planes beside the main one; attribute docstrings are the configuration reference."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from settings.chart_values import Writable
from settings.model import Model
from settings.scalars import DnsLabel, Hub, Place, Tag, Version


class ControlPlaneRevision(Model):
    """A control plane beside the main one; the map's key is its revision, `default` the one without a name."""

    version: Version | None = None
    """Its version, of charts and images. Without it the main one's."""
    charts: Place | None = None
    """Its chart repository or folder. Without it the main one's."""
    hub: Hub | None = None
    """Its image repository. Without it the main one's."""
    tag: Tag | None = None
    """Its image tag. Without it its `version`; where it has none, the main one's tag."""
    revision_tags: Sequence[DnsLabel] = ()
    """Revision tags that point at it, as `istio.revisionTags`."""
    values: Annotated[Mapping[str, Any], Writable] = {}
    """Values of its chart `istiod` that differ from the main one's, merged over those."""
