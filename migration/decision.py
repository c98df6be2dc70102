"""Decides whether a migration may take the step that the stack file asks for.

Pure: no cluster, no proxies, no Pulumi. What is in force comes from the VirtualService, so neither a clone nor a state
file matters; what speaks for the step comes from the mesh and from the proxies of the side that gains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a stack file asks for."""

    source: str
    """Subset that loses requests."""
    target: str
    """Subset that gains them."""
    at: int
    """Share of the requests that is to reach the target, in per cent."""
    step: int = 10
    """By how much that share may grow at once."""
    min_healthy: int = 1
    """How many healthy endpoints the side that gains must have."""
    max_error_rate: float = 1
    """Share of failed requests that is borne, in per cent."""
    min_requests: int = 20
    """Requests without which nothing can be said of errors."""

    @property
    def weights(self) -> dict[str, int]:
        """Share of each subset that gets any."""
        shares = {self.source: 100 - self.at, self.target: self.at}
        return {subset: share for subset, share in shares.items() if share}


@dataclass(frozen=True, kw_only=True)
class Count:
    """What a proxy has answered since it started."""

    requests: int = 0
    errors: int = 0

    def since(self, before: Count) -> Count:
        """What it has answered since then; all of it where it has started anew meanwhile."""
        if before.requests > self.requests or before.errors > self.errors:
            return self
        return Count(requests=self.requests - before.requests, errors=self.errors - before.errors)


@dataclass(frozen=True, kw_only=True)
class Record:
    """A step as it was taken, written beside the weights."""

    source: str
    target: str
    at: int
    counts: Mapping[str, Count] = field(default_factory=dict)
    """What the target's proxies had counted by then, by their names."""


@dataclass(frozen=True, kw_only=True)
class InForce:
    """What the cluster's proxies follow now."""

    weights: Mapping[str, int] | None = None
    """Share of each subset that gets any; None where no VirtualService says anything."""
    record: Record | None = None


@dataclass(frozen=True, kw_only=True)
class Member:
    """An endpoint of one side."""

    name: str
    """As people know it: `pod billing-7d4b` or `vm billing-1`."""
    unhealthy: str = ""
    """Why it is not healthy; empty where it is."""
    unjudged: bool = False
    """Whether that is only because nobody knows, as of a VM without a sidecar; such ones get requests all the same."""
    count: Count | None = None
    """What its proxy has counted; None where that could not be read."""
    unread: str = ""
    """Why it could not be read."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is put into force."""

    weights: Mapping[str, int]
    record: Record
    taken: bool = True
    """Whether it changes anything; otherwise it is the one that is in force."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a step is not taken: what is wrong, and what would be right."""

    what: str
    right: str


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """The step is not taken."""

    reasons: tuple[Reason, ...]


@dataclass(frozen=True, kw_only=True)
class Gain:
    """A side that is to get more requests, and what must speak for it."""

    subset: str
    now: int
    begins: bool = False
    """Whether a migration begins with it: its source gets all the requests, in one step however long."""
    since_start: bool = False
    """Whether the recorded counts are not this side's, so that its proxies' own start is where counting began."""

    @property
    def judged_by_errors(self) -> bool:
        """Whether it has got requests, so that its errors say something."""
        return self.now > 0 and not self.begins


def stays(in_force: InForce, wanted: Wanted) -> bool:
    """Whether what is wanted is in force already."""
    record = in_force.record
    return (
        in_force.weights == wanted.weights
        and record is not None
        and (record.source, record.target) == (wanted.source, wanted.target)
    )


def gains(in_force: InForce, wanted: Wanted) -> list[Gain]:
    """The sides that must be judged before they get more; a way back to where a migration came from is not judged."""
    record, before = in_force.record, in_force.weights or {}
    reverses = record is not None and (record.source, record.target) == (wanted.target, wanted.source)
    begins = record is None or not (reverses or (record.source, record.target) == (wanted.source, wanted.target))
    found = []
    if wanted.at > before.get(wanted.target, 0):
        known = record is not None and record.target == wanted.target
        found.append(Gain(subset=wanted.target, now=before.get(wanted.target, 0), since_start=not known))
    now = before.get(wanted.source, 0)
    if (begins or reverses) and 100 - wanted.at > now:
        # A migration begins by giving all requests to its source, which may be more than it had.
        found.append(Gain(subset=wanted.source, now=now, begins=begins))
    return found


def too_far(gain: Gain, wanted: Wanted) -> Reason | None:
    """Why the step is too long, if it is."""
    forward = gain.subset == wanted.target
    asked = wanted.at if forward else 100 - wanted.at
    if gain.begins or asked <= gain.now + wanted.step:
        return None
    allowed = gain.now + wanted.step
    return Reason(
        what=f"{gain.subset} would go from {gain.now} % to {asked} %, by more than step, {wanted.step}",
        right=f"at most {allowed} now" if forward else f"at least {100 - allowed} now",
    )


def judge(gain: Gain, wanted: Wanted, record: Record | None, members: Sequence[Member]) -> list[Reason]:
    """Why a side may not get more, if it may not."""
    forward = gain.subset == wanted.target
    right = f"{gain.now if forward else 100 - gain.now} until that is mended"
    if gain.begins:
        right = "begin when that is mended"
    elif forward and gain.now:
        right += ", or less to go back"
    found = _unwell(gain, wanted, members)
    if gain.judged_by_errors and not found:
        found = _errors(gain, wanted, record, members)
    return [Reason(what=what, right=right) for what in found]


def _unwell(gain: Gain, wanted: Wanted, members: Sequence[Member]) -> list[str]:
    healthy = [member for member in members if not member.unhealthy or (gain.begins and member.unjudged)]
    if len(healthy) >= (1 if gain.begins else wanted.min_healthy):
        return []
    ill = [f"{member.name} {member.unhealthy}" for member in members if member.unhealthy]
    what = f"{gain.subset} has {len(healthy)} healthy endpoint{'' if len(healthy) == 1 else 's'}"
    what += "" if gain.begins else f", fewer than minHealthy, {wanted.min_healthy}"
    return [what + (f": {_some(ill)}" if ill else ", and no other ones")]


def _errors(gain: Gain, wanted: Wanted, record: Record | None, members: Sequence[Member]) -> list[str]:
    if unread := [f"{member.name}: {member.unread}" for member in members if member.count is None]:
        return [f"the counters of {gain.subset} could not be read: {_some(unread)}"]
    before = record.counts if record is not None and not gain.since_start else {}
    seen = [m.count.since(before.get(m.name, Count())) for m in members if m.count is not None]
    requests, errors = sum(count.requests for count in seen), sum(count.errors for count in seen)
    since = f"since it got {gain.now} %" if before else "since its proxies started"
    if requests < wanted.min_requests:
        counted = f"counted {requests} request{'' if requests == 1 else 's'} {since}"
        return [f"the proxies of {gain.subset} have {counted}, fewer than minRequests, {wanted.min_requests}"]
    rate = 100 * errors / requests if requests else 0.0
    if rate <= wanted.max_error_rate:
        return []
    failed = f"{errors} of {requests} requests to {gain.subset} failed {since}"
    return [f"{failed}, {rate:.3g} %, more than maxErrorRate, {wanted.max_error_rate:g} %"]


def _some(items: Sequence[str], most: int = 3) -> str:
    rest = len(items) - most
    return "; ".join(items[:most]) + (f"; and {rest} more" if rest > 0 else "")


def decide(in_force: InForce, wanted: Wanted, sides: Mapping[str, Sequence[Member]]) -> Step | Refusal:
    """The step to take, or why it is not taken.

    Args:
        in_force: What the cluster has now.
        wanted: What the stack file asks for.
        sides: The endpoints of each subset. Both may be empty where nothing serves yet: then there is nobody to harm.
    """
    if stays(in_force, wanted):
        assert in_force.record is not None
        return Step(weights=wanted.weights, record=in_force.record, taken=False)
    judged = gains(in_force, wanted)
    new = in_force.weights is None and not any(sides.values())
    far = [] if new else [reason for gain in judged if (reason := too_far(gain, wanted))]
    if far:
        return Refusal(reasons=tuple(far))
    record = in_force.record
    against = [] if new else [r for gain in judged for r in judge(gain, wanted, record, sides.get(gain.subset, ()))]
    if against:
        return Refusal(reasons=tuple(against))
    counts = {member.name: member.count for member in sides.get(wanted.target, ()) if member.count is not None}
    return Step(
        weights=wanted.weights,
        record=Record(source=wanted.source, target=wanted.target, at=wanted.at, counts=counts),
    )
