"""Who may reach what; attribute docstrings are the configuration reference."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, model_validator

from settings.mesh_scalars import Caller, HttpMethod, PathPattern, PortOrName
from settings.model import Model
from settings.problems import wrong


class AccessRule(Model):
    """A rule that lets requests in: those that all of its keys speak of."""

    from_: Annotated[Sequence[Caller], Field(min_length=1)] | None = Field(default=None, alias="from")
    """Who calls, as its certificate proves: a workload of the stack by name, `<namespace>/<service account>`,
    `<namespace>/*`, a whole identity `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, or `*`: whoever
    proves any. Without it everybody."""
    methods: Annotated[Sequence[HttpMethod], Field(min_length=1)] | None = None
    """HTTP methods. Without any all."""
    paths: Annotated[Sequence[PathPattern], Field(min_length=1)] | None = None
    """Paths, also as `/api/*` or `*/info`. Without any all."""
    ports: Annotated[Sequence[PortOrName], Field(min_length=1)] | None = None
    """Ports at which the application listens, not those of a service: numbers, or names of the workload's ports.
    Without any all."""

    @model_validator(mode="after")
    def _says_something(self) -> "AccessRule":
        if not self.model_fields_set:
            raise wrong("says nothing, so it lets everybody in", "from, methods, paths or ports, or no access at all")
        return self

    @property
    def asks_http(self) -> bool:
        """Whether it asks for what only HTTP requests have."""
        return self.methods is not None or self.paths is not None
