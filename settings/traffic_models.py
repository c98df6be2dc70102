"""Traffic rules, as a stack file describes them; attribute docstrings are the configuration reference."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from settings.migration_models import Migration
from settings.model import Model
from settings.problems import wrong
from settings.scalars import DnsLabel, HostName, LabelKey, LabelValue, Port, Seconds
from settings.traffic_policy_models import ConnectionPool, LoadBalancer, OutlierDetection
from settings.traffic_scalars import (
    Duration,
    GrpcStatus,
    HeaderName,
    Matched,
    MatchedPath,
    Present,
    Regex,
    RetryOn,
    Share,
    Status,
)

_M = TypeVar("_M", bound=Model)

SubsetLabels = Annotated[Mapping[LabelKey, LabelValue], Field(min_length=1)]


def exactly_one(model: _M, values: Mapping[str, object]) -> _M:
    """Return a model that has one of these keys, and refuse any other."""
    given = [key for key, value in values.items() if value is not None]
    if len(given) != 1:
        what = f"has {' and '.join(given)}" if given else "says nothing"
        raise wrong(what, f"exactly one of {', '.join(values)}")
    return model


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


class Mirror(Destination):
    """Where copies of requests go; nobody waits for the answers to them."""

    percent: Share = 100
    """Share of the requests that is copied."""

    @model_validator(mode="after")
    def _elsewhere(self) -> "Mirror":
        if self.host is None and self.subset is None:
            raise wrong("leads nowhere else", "a subset, or another host")
        return self


class Abort(Model):
    """Requests that are answered with an error in place of the host."""

    http_status: Status | None = None
    """HTTP status of the answer."""
    grpc_status: GrpcStatus | None = None
    """gRPC status of the answer."""
    percent: Share = 100
    """Share of the requests."""

    @model_validator(mode="after")
    def _one_status(self) -> "Abort":
        return exactly_one(self, {"httpStatus": self.http_status, "grpcStatus": self.grpc_status})


class Delay(Model):
    """Requests that are held back."""

    fixed_delay: Duration
    """For how long."""
    percent: Share = 100
    """Share of the requests."""


class Fault(Model):
    """Errors and delays that each client's sidecar makes up, to see what becomes of its requests."""

    abort: Abort | None = None
    """Requests that are answered with an error in place of the host."""
    delay: Delay | None = None
    """Requests that are held back."""

    @model_validator(mode="after")
    def _some(self) -> "Fault":
        if self.abort is None and self.delay is None:
            raise wrong("says nothing", "abort or delay or both")
        return self


class TextMatch(Model):
    """What a text must be: exactly one of exact, prefix, regex."""

    exact: Matched | None = None
    """This text."""
    prefix: Matched | None = None
    """A text that begins so."""
    regex: Regex | None = None
    """A text of which all matches this regular expression (RE2)."""

    @model_validator(mode="after")
    def _one_way(self) -> "TextMatch":
        return exactly_one(self, self.model_dump())


class HeaderMatch(TextMatch):
    """What a header must be: exactly one of exact, prefix, regex, present."""

    present: Present | None = None
    """`true`: there is one, with any value."""


class PathMatch(TextMatch):
    """What a request's path, without what follows `?`, must be: exactly one of exact, prefix, regex."""

    exact: MatchedPath | None = None
    """This path."""
    prefix: MatchedPath | None = None
    """A path that begins so."""


class Rule(Model):
    """What happens to requests."""

    routes: Sequence[WeightedDestination] = ()
    """Where they go, with weights that are 100 together."""
    timeout: Duration | None = None
    """How long a request may take with all its retries. Without it there is no limit."""
    retries: Retries | None = None
    """What is tried again."""
    mirror: Mirror | None = None
    """Where copies of the requests go."""
    fault: Fault | None = None
    """Errors and delays for the requests. Not with `timeout` and `retries`, which do not act on them."""

    @property
    def acts(self) -> bool:
        """Whether anything is other than without rules."""
        return any((self.routes, self.timeout, self.retries, self.mirror, self.fault))

    @property
    def destinations(self) -> list[tuple[tuple[str | int, ...], Destination]]:
        """Every place that requests go to, with the keys that lead to it."""
        mirrors = [] if self.mirror is None else [(("mirror",), self.mirror)]
        return [*((("routes", index), route) for index, route in enumerate(self.routes)), *mirrors]


class MatchRule(Rule):
    """What happens to requests that match all of headers, method and path; at least one is given.

    What it does not say of `routes`, `timeout`, `retries`, `mirror` and `fault` is as for all other requests to the
    host; but one with a fault of its own has no other timeout and retries, and the other way round.
    """

    headers: Annotated[Mapping[HeaderName, HeaderMatch], Field(min_length=1)] | None = None
    """What headers must be, by their names in lower case."""
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] | None = None
    """What the method must be."""
    path: PathMatch | None = None
    """What the path must be."""

    @model_validator(mode="after")
    def _some_condition(self) -> "MatchRule":
        if self.headers is None and self.method is None and self.path is None:
            raise wrong("matches every request", "headers, method or path, or these keys beside matches")
        return self

    def under(self, others: Rule) -> "MatchRule":
        """Return the rule with what it takes from the rule for all other requests."""
        taken: dict[str, object] = {
            "routes": self.routes or others.routes,
            "mirror": self.mirror or others.mirror,
        }
        if self.fault is None:
            taken |= {"timeout": self.timeout or others.timeout, "retries": self.retries or others.retries}
        if self.timeout is None and self.retries is None:
            taken |= {"fault": self.fault or others.fault}
        return self.model_copy(update=taken)


class HostTraffic(Rule):
    """How the mesh sends traffic to a host: its DestinationRule and VirtualService."""

    subsets: Mapping[DnsLabel, SubsetLabels] = {}
    """Parts of the host by name, each with the labels that its VMs or pods bear, as in `v1: {version: v1}`."""
    pod_subsets: Sequence[DnsLabel] = ()
    """Subsets that are of pods, or of VMs that are not in this stack: nothing here shows that somebody bears their
    labels. Every other subset of a workload's host has at least one of the workload's VMs."""
    migration: Migration | None = None
    """The move of its requests from one subset to another, in place of `routes`."""

    matches: Sequence[MatchRule] = ()
    """Rules for some requests; the first that matches a request holds for it."""
    connection_pool: ConnectionPool | None = None
    """Limits of what each client's sidecar sends to the host."""
    outlier_detection: OutlierDetection | None = None
    """When a client's sidecar leaves out a VM or pod that fails."""
    load_balancer: LoadBalancer | None = None
    """Which VM or pod gets a request."""

    @property
    def acts(self) -> bool:
        """Whether requests are treated in another way than without rules."""
        return bool(self.matches or self.migration) or super().acts

    @property
    def rules(self) -> list[tuple[tuple[str | int, ...], Rule]]:
        """Every rule as it is written, with the keys that lead to it, in the order in which they are tried."""
        return [*((("matches", index), rule) for index, rule in enumerate(self.matches)), ((), self)]
