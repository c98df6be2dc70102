"""The move of a host's requests between two of its subsets; attribute docstrings are the configuration reference."""

from typing import Annotated

from pydantic import Field, model_validator

from settings.model import Model
from settings.problems import wrong
from settings.scalars import Count, DnsLabel, Seconds
from settings.traffic_scalars import Part, Percent, Share


class Migration(Model):
    """A move of requests from VMs to pods or back, which `up` makes only where the mesh itself speaks for it."""

    source: Annotated[DnsLabel, Field(alias="from")]
    """Subset that the requests leave."""
    to: DnsLabel
    """Subset that they move to."""
    at: Share = 0
    """Share of the requests that is to reach `to`, in per cent. 0: the move has not begun; 100: it is finished, and
    `from` gets no subset and no route any more. Less than before is always possible."""
    step: Part = 10
    """By how much `at` may be above what is in force, in per cent."""
    min_healthy: Count = 1
    """How many healthy endpoints `to` must have to get more."""
    max_error_rate: Percent = 1
    """How many of the requests to `to` may have failed with a status from 500 since the last step, in per cent."""
    min_requests: Seconds = 20
    """How many requests `to` must have answered since the last step, so that something can be said of errors."""

    @model_validator(mode="after")
    def _two_sides(self) -> "Migration":
        if self.source == self.to:
            raise wrong(f"moves from {self.source} to {self.to}", "two different subsets")
        return self
