"""What must hold within the traffic rules of one host, whatever else the stack has."""

import itertools
from collections.abc import Iterator, Mapping

from settings.problems import Problem, join
from settings.traffic_models import HostTraffic, MatchRule, Rule, TextMatch
from settings.traffic_policy_models import Locality
from settings.traffic_scalars import milliseconds

_REGION_LABELS = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")


def check_rules(host: str, traffic: HostTraffic) -> Iterator[Problem]:
    """Yield rules of a host that contradict themselves or each other."""
    for keys, rule in traffic.rules:
        whole = rule.under(traffic) if isinstance(rule, MatchRule) else rule
        yield from _fault(rule, "traffic", host, *keys)
        yield from _tries(whole, rule, "traffic", host, *keys)
        if rule.routes or rule.mirror:
            yield from _mirror(host, whole, "traffic", host, *keys)
    yield from _unreached(host, traffic)
    locality = traffic.load_balancer.locality if traffic.load_balancer else None
    if locality is not None:
        yield from _locality(locality, traffic, "traffic", host, "loadBalancer", "locality")


def _fault(rule: Rule, *path: str | int) -> Iterator[Problem]:
    """Yield a fault beside what does not act on it: Envoy's router, which has the limits, comes after the fault."""
    given = [key for key, value in (("timeout", rule.timeout), ("retries", rule.retries)) if value is not None]
    if rule.fault is not None and given:
        what = f"given beside {' and '.join(given)}: no limit has an effect on what the client's sidecar makes up"
        right = "a rule without these, as one of matches"
        yield Problem(path=join(*path, "fault"), what=what, right=right)


def _mirror(host: str, rule: Rule, *path: str | int) -> Iterator[Problem]:
    """Yield a mirror to the only place to which the requests go anyway."""
    served = {(route.host or host, route.subset) for route in rule.routes if route.weight != 0} or {(host, None)}
    if rule.mirror is not None and served == {(rule.mirror.host or host, rule.mirror.subset)}:
        what = "copies requests to where all of them go anyway"
        yield Problem(path=join(*path, "mirror"), what=what, right="another subset or host")


def _tries(rule: Rule, written: Rule, *path: str | int) -> Iterator[Problem]:
    """Yield a limit of one attempt that the limit of all ends first; they may be equal, as some attempts fail fast."""
    per_try = rule.retries.per_try_timeout if rule.retries else None
    if not rule.timeout or not per_try or milliseconds(per_try) <= milliseconds(rule.timeout):
        return
    if written.retries is not None:
        what = f"never comes, as timeout ends the request after {rule.timeout}"
        yield Problem(path=join(*path, "retries", "perTryTimeout"), what=what, got=per_try, right="at most timeout")
    elif written.timeout is not None:
        what = f"ends a request before the perTryTimeout of {per_try}, which holds here too"
        yield Problem(path=join(*path, "timeout"), what=what, got=rule.timeout, right="more, or retries of its own")


def _unreached(host: str, traffic: HostTraffic) -> Iterator[Problem]:
    """Yield rules all of whose requests an earlier rule takes."""
    for (first, earlier), (index, later) in itertools.combinations(enumerate(traffic.matches), 2):
        if _takes_all(earlier, later):
            what = f"never matches: {join('traffic', host, 'matches', first)} takes all of its requests"
            right = "before that one, or another condition"
            yield Problem(path=join("traffic", host, "matches", index), what=what, right=right)
            return


def _takes_all(earlier: MatchRule, later: MatchRule) -> bool:
    headers, wanted = later.headers or {}, earlier.headers or {}
    return (
        earlier.method in (None, later.method)
        and _covers(earlier.path, later.path)
        and all(_covers(match, headers.get(name)) for name, match in wanted.items())
    )


def _covers(wide: TextMatch | None, narrow: TextMatch | None) -> bool:
    """Return whether whatever fits one condition fits the other for certain."""
    if wide is None or narrow is None:
        return wide is None
    text = narrow.exact or narrow.prefix
    begins = wide.prefix is not None and text is not None and text.startswith(wide.prefix)
    return wide == narrow or begins or getattr(wide, "present", None) is True


def _locality(locality: Locality, traffic: HostTraffic, *path: str | int) -> Iterator[Problem]:
    """Yield what istiod refuses of a locality, or does not act on."""
    given = {
        "distribute": locality.distribute,
        "failover": locality.failover,
        "failoverPriority": locality.failover_priority,
    }
    used = [key for key, value in given.items() if value]
    if not locality.enabled and used:
        what = f"off, and {' and '.join(used)} say what to do"
        yield Problem(path=join(*path, "enabled"), what=what, got=False, right="leave these out, or enabled")
    for key in used:
        if locality.distribute and key != "distribute":
            yield Problem(path=join(*path, key), what="given beside distribute", right="one of the two")
    if locality.failover and set(_REGION_LABELS) & set(locality.failover_priority):
        what = "names regions or zones beside failover"
        yield Problem(path=join(*path, "failoverPriority"), what=what, right="one of the two")
    for key in used:
        if key != "distribute" and traffic.outlier_detection is None:
            what, right = "without outlierDetection, so nothing is ever seen to fail", "give outlierDetection"
            yield Problem(path=join(*path, key), what=what, right=right)
    for region, other in locality.failover.items():
        if region == other:
            yield Problem(path=join(*path, "failover", region), what="leads to itself", right="another region")
    yield from _shares(locality.distribute, *path, "distribute")


def _shares(distribute: Mapping[str, Mapping[str, int]], *path: str | int) -> Iterator[Problem]:
    """Yield shares that are not 100 together, and places that lie within one another."""
    yield from _within(distribute, *path)
    for place, shares in distribute.items():
        yield from _within(shares, *path, place)
        total = sum(shares.values())
        if total != 100:
            what = f"shares of {' + '.join(map(str, shares.values()))}"
            yield Problem(path=join(*path, place), what=what, got=total, right="shares that are 100 together")


def _within(places: Mapping[str, object], *path: str | int) -> Iterator[Problem]:
    """Yield a place that lies within another one of the same map."""
    parts = {place: [part for part in place.split("/") if part != "*"] for place in places}
    for one, other in itertools.permutations(places, 2):
        if parts[other][: len(parts[one])] == parts[one]:
            what = f"lies within {one}"
            yield Problem(path=join(*path, other), what=what, right="places that have nothing in common")
            return
