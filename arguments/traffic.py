"""What a TrafficPolicy gets of a host's traffic rules: Istio's own words for them."""

from collections.abc import Mapping
from typing import Any

from arguments.migration import annotations, moved
from components.control_plane import Mesh
from components.traffic import TrafficPolicyArgs
from components.vm_namespace import VmNamespace
from migration.decision import Step
from settings import HostTraffic, Settings, mesh_host, subsets_in_use
from settings.model import Model
from settings.traffic_models import Abort, Delay, Destination, MatchRule, Rule, WeightedDestination
from settings.traffic_policy_models import Locality


def policy_args(
    stack: Settings,
    host: str,
    control_plane: Mesh,
    namespaces: Mapping[str, VmNamespace],
    moves: Mapping[str, Step],
) -> TrafficPolicyArgs:
    """One host's traffic rules."""
    traffic, found = stack.traffic[host], mesh_host(host, stack.workloads, stack.services)
    assert found is not None, "settings refuse a host that nobody declares"
    move = traffic.migration
    sides = {move.source, move.to} if move else set()
    used = subsets_in_use(stack.traffic, host)
    return TrafficPolicyArgs(
        host=host,
        namespace=found.namespace,
        subsets={name: labels for name, labels in traffic.subsets.items() if name not in sides},
        policy=traffic_policy(traffic),
        moving={name: labels for name, labels in traffic.subsets.items() if name in sides & used},
        rules=http_rules(host, moved(traffic, moves.get(host))),
        annotations=annotations(moves.get(host)),
        after=[*control_plane.ready, *(namespaces[found.namespace].ready if found.namespace in namespaces else ())],
    )


def traffic_policy(traffic: HostTraffic) -> dict[str, Any]:
    """What holds for connections, as a DestinationRule's `trafficPolicy`."""
    policy: dict[str, Any] = {}
    if traffic.connection_pool is not None:
        policy["connectionPool"] = _said(traffic.connection_pool)
    if traffic.outlier_detection is not None:
        policy["outlierDetection"] = _said(traffic.outlier_detection)
        if traffic.outlier_detection.consecutive_local_origin_failures:
            policy["outlierDetection"]["splitExternalLocalOriginErrors"] = True
    if traffic.load_balancer is not None:
        locality = traffic.load_balancer.locality
        simple = {"simple": traffic.load_balancer.simple} if traffic.load_balancer.simple else {}
        policy["loadBalancer"] = simple | ({"localityLbSetting": locality_setting(locality)} if locality else {})
    return policy


def locality_setting(locality: Locality) -> dict[str, Any]:
    """How regions share the requests."""
    setting: dict[str, Any] = {"enabled": locality.enabled}
    if locality.distribute:
        setting["distribute"] = [{"from": place, "to": dict(shares)} for place, shares in locality.distribute.items()]
    if locality.failover:
        setting["failover"] = [{"from": region, "to": other} for region, other in locality.failover.items()]
    if locality.failover_priority:
        setting["failoverPriority"] = list(locality.failover_priority)
    return setting


def http_rules(host: str, traffic: HostTraffic) -> list[dict[str, Any]]:
    """Every rule as an HTTPRoute, in the order in which they are tried; none where there is nothing to say."""
    if not traffic.acts:
        return []
    matches = [{"match": [http_match(rule)], **http_route(host, rule.under(traffic))} for rule in traffic.matches]
    return [*matches, http_route(host, traffic)]


def http_match(rule: MatchRule) -> dict[str, Any]:
    """Which requests a rule is for."""
    match: dict[str, Any] = {}
    if rule.headers:
        # A header's match without anything in it is for any value.
        match["headers"] = {name: {} if header.present else _said(header) for name, header in rule.headers.items()}
    if rule.method:
        match["method"] = {"exact": rule.method}
    if rule.path:
        match["uri"] = _said(rule.path)
    return match


def http_route(host: str, rule: Rule) -> dict[str, Any]:
    """One rule as an HTTPRoute, which names its destination even where there is no choice."""
    route: dict[str, Any] = {
        "route": [
            {"destination": destination(host, to)} | ({} if to.weight is None else {"weight": to.weight})
            for to in rule.routes or [WeightedDestination()]
        ]
    }
    if rule.timeout is not None:
        route["timeout"] = rule.timeout
    if rule.retries is not None:
        route["retries"] = _said(rule.retries)
    if rule.mirror is not None:
        mirror = {"destination": destination(host, rule.mirror), "percentage": {"value": rule.mirror.percent}}
        route["mirrors"] = [mirror]
    if rule.fault is not None:
        parts = {"abort": rule.fault.abort, "delay": rule.fault.delay}
        route["fault"] = {key: _portioned(part) for key, part in parts.items() if part is not None}
    return route


def _portioned(part: Abort | Delay) -> dict[str, Any]:
    """A fault with its share, which Istio takes for 0 where it is not given."""
    said = part.model_dump(by_alias=True, exclude_none=True, exclude={"percent"})
    return {**said, "percentage": {"value": part.percent}}


def _said(model: Model) -> dict[str, Any]:
    """A part whose keys are Istio's own, without those that are not given."""
    return model.model_dump(by_alias=True, exclude_none=True)


def destination(host: str, to: Destination) -> dict[str, Any]:
    """Where requests go."""
    found: dict[str, Any] = {"host": to.host or host}
    if to.subset is not None:
        found["subset"] = to.subset
    if to.port is not None:
        found["port"] = {"number": to.port}
    return found
