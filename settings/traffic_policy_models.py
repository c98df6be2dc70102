"""What holds for connections to a host, as a stack file describes it; docstrings are the configuration reference."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from settings.model import Model
from settings.problems import wrong
from settings.scalars import Count, Seconds
from settings.traffic_scalars import Duration, LocalityRange, Part, Priority, Region


class _SaysSomething(Model):
    """A part that istiod refuses, or that has no effect, where it is empty."""

    as_in: ClassVar[str]

    @model_validator(mode="after")
    def _not_empty(self) -> "_SaysSomething":
        if not self.model_fields_set:
            raise wrong("says nothing", f"leave it out, or as in {self.as_in}")
        return self


class TcpPool(_SaysSomething):
    """Limits of connections."""

    as_in: ClassVar[str] = "{maxConnections: 100}"

    max_connections: Count | None = None
    """How many connections one client's sidecar opens to the host. More requests wait, as `http` allows."""
    connect_timeout: Duration | None = None
    """How long a connection may take to open. Istio's default: 10s."""
    idle_timeout: Duration | None = None
    """How long a TCP connection may be idle. Istio's default: 1h."""
    max_connection_duration: Duration | None = None
    """How long a connection may last. Without it there is no limit."""


class HttpPool(_SaysSomething):
    """Limits of requests."""

    as_in: ClassVar[str] = "{http1MaxPendingRequests: 100}"

    http1_max_pending_requests: Count | None = None
    """How many requests of one client's sidecar may wait for a connection. More are answered with 503."""
    http2_max_requests: Count | None = None
    """How many requests of one client's sidecar may be on their way, with HTTP/1.1 too."""
    max_requests_per_connection: Count | None = None
    """How many requests one connection carries; 1: keep-alive is off."""
    max_retries: Count | None = None
    """How many retries of one client's sidecar may be on their way."""
    max_concurrent_streams: Count | None = None
    """How many requests one HTTP/2 connection carries at a time."""
    idle_timeout: Duration | None = None
    """How long a connection may be without a request. Istio's default: 1h."""


class ConnectionPool(_SaysSomething):
    """Limits of what each client's sidecar sends to the host."""

    as_in: ClassVar[str] = "{tcp: {maxConnections: 100}}"

    tcp: TcpPool | None = None
    """Limits of connections."""
    http: HttpPool | None = None
    """Limits of requests."""


class OutlierDetection(Model):
    """When a client's sidecar leaves out a VM or pod that fails, for a while; `{}`: by Istio's defaults."""

    consecutive_5xx_errors: Seconds | None = Field(None, alias="consecutive5xxErrors")
    """After how many answers with a status of 5xx in a row; connections that fail count too. 0: they do not matter.
    Istio's default: 5."""
    consecutive_gateway_errors: Count | None = None
    """After how many answers 502, 503 or 504 in a row."""
    consecutive_local_origin_failures: Count | None = None
    """After how many connections in a row that failed or timed out; they then do not count as 5xx
    (`splitExternalLocalOriginErrors`)."""
    interval: Duration | None = None
    """How often those left out are looked at. Istio's default: 10s."""
    base_ejection_time: Duration | None = None
    """For how long one is left out, times the number of times that it has been. Istio's default: 30s."""
    max_ejection_percent: Part | None = None
    """Share of them that may be left out; one always may. Istio's default: 10."""
    min_health_percent: Part | None = None
    """Share of them that must be left; with less, all are used again. Istio's default: 0."""

    @model_validator(mode="after")
    def _both_count(self) -> "OutlierDetection":
        limit = 5 if self.consecutive_5xx_errors is None else self.consecutive_5xx_errors
        gateway = self.consecutive_gateway_errors
        if gateway is not None and 0 < limit <= gateway:
            raise wrong(
                f"never counts {gateway} gateway errors: they are 5xx errors, of which {limit} in a row are enough",
                "fewer consecutiveGatewayErrors, more consecutive5xxErrors, or consecutive5xxErrors: 0",
            )
        return self


class Locality(Model):
    """How the host's regions share the requests.

    A pod is where its node is, a VM where its label `istio-locality` says: `eu.a` is `eu/a`.
    """

    enabled: bool = True
    """Whether regions matter. `false`: requests go to all alike, also with outlierDetection."""
    distribute: Mapping[LocalityRange, Annotated[Mapping[LocalityRange, Part], Field(min_length=1)]] = {}
    """For clients in a place: the shares of places, 100 together, as in `eu/a: {eu/a: 80, eu/b: 20}`."""
    failover: Mapping[Region, Region] = {}
    """For clients in a region: the region that takes over, as in `eu: us`."""
    failover_priority: Sequence[Priority] = ()
    """Labels, the most important first: endpoints that have more of the client's own values in a row come first, the
    others when those fail. `key=value`: the endpoints with that value come first for every client."""


class LoadBalancer(_SaysSomething):
    """Which VM or pod gets a request."""

    as_in: ClassVar[str] = "{simple: ROUND_ROBIN}"

    simple: Literal["LEAST_REQUEST", "RANDOM", "ROUND_ROBIN"] | None = None
    """In which way. Istio's default: `LEAST_REQUEST`."""
    locality: Locality | None = None
    """How regions share the requests."""
