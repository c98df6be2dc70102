"""Traffic rules, as a stack file describes them; attribute docstrings are the configuration reference."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field, model_validator

from settings.model import Model
from settings.problems import wrong
from settings.scalars import DnsLabel, HostName, LabelKey, LabelValue, Port, Seconds
from settings.traffic_scalars import Duration, RetryOn, Share

SubsetLabels = Annotated[Mapping[LabelKey, LabelValue], Field(min_length=1)]


class Destination(Model):
    """Where requests go."""

    host: HostName | None = None
    """Full name of another host of the stack. Without it the one that the rules are about."""
    subset: DnsLabel | None = None
    """Subset of the host, as its own traffic rules name it. Without it all of the host."""
    port: Port | None = None
    """Port of the other host. Without it its only one, or the one that the request was for."""

    @model_validator(mode="after")
    def _port_of_a_host(self) -> "Destination":
        if self.port is not None and self.host is None:
            raise wrong(
                "has a port without host: requests for a host keep their port", "leave port out, or name a host"
            )
        return self


class WeightedDestination(Destination):
    """Where a share of the requests goes."""

    weight: Share | None = None
    """Share of the requests; all of a list's are 100 together. A single route may leave it out."""


class Retries(Model):
    """What is tried again. Without it Istio's default: 2 more attempts, not within a status such as plain 503."""

    attempts: Seconds
    """How many more attempts there are after the first; 0: none, where Istio would make 2."""
    per_try_timeout: Duration | None = None
    """How long one attempt may take. Without it as long as all of them, `timeout`."""
    retry_on: RetryOn | None = None
    """On what there is another attempt: conditions of Envoy and HTTP statuses, as in `connect-failure,reset,503`.
    Istio's default: `connect-failure,refused-stream,unavailable,cancelled`."""

    @model_validator(mode="after")
    def _off_is_off(self) -> "Retries":
        given = [key for key, value in (("perTryTimeout", self.per_try_timeout), ("retryOn", self.retry_on)) if value]
        if self.attempts == 0 and given:
            raise wrong(
                f"has attempts: 0, which is no retry, and {' and '.join(given)}",
                "more attempts, or attempts: 0 alone",
            )
        return self


class Rule(Model):
    """What happens to requests."""

    routes: Sequence[WeightedDestination] = ()
    """Where they go, with weights that are 100 together."""
    timeout: Duration | None = None
    """How long a request may take with all its retries. Without it there is no limit."""
    retries: Retries | None = None
    """What is tried again."""

    @property
    def destinations(self) -> list[tuple[tuple[str | int, ...], Destination]]:
        """Every place that requests go to, with the keys that lead to it."""
        return [(("routes", index), route) for index, route in enumerate(self.routes)]


class HostTraffic(Rule):
    """How the mesh sends traffic to a host: its DestinationRule and VirtualService."""

    subsets: Mapping[DnsLabel, SubsetLabels] = {}
    """Parts of the host by name, each with the labels that its VMs or pods bear, as in `v1: {version: v1}`."""
    pod_subsets: Sequence[DnsLabel] = ()
    """Subsets that are of pods, or of VMs that are not in this stack: nothing here shows that somebody bears their
    labels. Every other subset of a workload's host has at least one of the workload's VMs."""

    @property
    def rules(self) -> list[tuple[tuple[str | int, ...], Rule]]:
        """Every rule with the keys that lead to it, in the order in which they are tried."""
        return [((), self)]
