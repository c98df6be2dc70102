"""What Envoy has counted of the requests that a proxy let in, from its page `/stats/prometheus`.

Istio's own metric where the proxy has it: it knows the service that was asked for. Otherwise Envoy's clusters towards
the application, one a port; Istio leaves those out unless `proxyStatsMatcher` names them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from migration.decision import Count

PATH = "stats/prometheus?usedonly&filter=" + r"^cluster\.inbound\|.*\.upstream_rq_.xx$|istio_requests_total"
"""What a proxy is asked for."""

_LINE = re.compile(r"(?P<name>[a-z0-9_]+)\{(?P<labels>.*)\} (?P<value>[0-9.e+]+)")
_LABEL = re.compile(r'([a-zA-Z0-9_]+)="((?:[^"\\]|\\.)*)"')


def counted(page: str, host: str, ports: Collection[int]) -> Count:
    """The requests for a host that a proxy's page shows, and those of them that failed.

    Args:
        page: In Prometheus' text format.
        host: Full name of the host.
        ports: Ports of the application that the host leads to, for proxies without Istio's metric.
    """
    metrics = [(found["name"], dict(_LABEL.findall(found["labels"])), found["value"]) for found in _lines(page)]
    reported = [
        (labels, value)
        for name, labels, value in metrics
        if name == "istio_requests_total" and labels.get("reporter") == "destination"
    ]
    if reported:
        return _sum((labels["response_code"], value) for labels, value in reported if _is_for(labels, host))
    towards = {f"inbound|{port}||" for port in ports}
    return _sum(
        (labels["response_code_class"], value)
        for name, labels, value in metrics
        if name == "envoy_cluster_upstream_rq"
        and labels.get("cluster_name", "").rstrip(";") in towards
        and "response_code_class" in labels
    )


def _lines(page: str) -> list[re.Match[str]]:
    return [found for line in page.splitlines() if (found := _LINE.fullmatch(line.strip()))]


def _is_for(labels: dict[str, str], host: str) -> bool:
    return labels.get("destination_service") == host


def _sum(codes: Iterable[tuple[str, str]]) -> Count:
    """Adds up; a code that is none, as `0` of a request that was cut off, is no success."""
    requests = errors = 0
    for code, value in codes:
        requests += int(float(value))
        errors += int(float(value)) if code[:1] in {"0", "5"} else 0
    return Count(requests=requests, errors=errors)
