"""What a TrafficPolicy gets of a host's traffic rules: Istio's own words for them."""

from collections.abc import Mapping
from typing import Any

from components.control_plane import ControlPlane
from components.traffic import TrafficPolicyArgs
from components.vm_namespace import VmNamespace
from settings import HostTraffic, Settings, mesh_host
from settings.traffic_models import Destination, Rule


def policy_args(
    stack: Settings, host: str, control_plane: ControlPlane, namespaces: Mapping[str, VmNamespace]
) -> TrafficPolicyArgs:
    """One host's traffic rules."""
    traffic, found = stack.traffic[host], mesh_host(host, stack.workloads, stack.services)
    assert found is not None, "settings refuse a host that nobody declares"
    return TrafficPolicyArgs(
        host=host,
        namespace=found.namespace,
        subsets=traffic.subsets,
        rules=http_rules(host, traffic),
        after=[*control_plane.ready, *(namespaces[found.namespace].ready if found.namespace in namespaces else ())],
    )


def http_rules(host: str, traffic: HostTraffic) -> list[dict[str, Any]]:
    """Every rule as an HTTPRoute; none where the host's VirtualService would say nothing."""
    rules = [http_route(host, rule) for _, rule in traffic.rules]
    return [] if rules == [http_route(host, Rule())] else rules


def http_route(host: str, rule: Rule) -> dict[str, Any]:
    """One rule as an HTTPRoute, which names its destinations even where there is no choice."""
    route: dict[str, Any] = {"route": [{"destination": {"host": host}}]}
    if rule.routes:
        route["route"] = [
            {"destination": destination(host, to)} | ({} if to.weight is None else {"weight": to.weight})
            for to in rule.routes
        ]
    if rule.timeout is not None:
        route["timeout"] = rule.timeout
    if rule.retries is not None:
        route["retries"] = rule.retries.model_dump(by_alias=True, exclude_none=True)
    return route


def destination(host: str, to: Destination) -> dict[str, Any]:
    """Where requests go."""
    found: dict[str, Any] = {"host": to.host or host}
    if to.subset is not None:
        found["subset"] = to.subset
    if to.port is not None:
        found["port"] = {"number": to.port}
    return found
