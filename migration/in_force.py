"""What a VirtualService says of a migration: the shares that are in force, and the step that led to them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from migration.decision import Count, InForce, Record
from registration.report import AFTER_UP

ANNOTATION = "istio-vm-mesh/migration"
"""Where a step is recorded, on the VirtualService that it changed."""


def in_force(host: str, virtual_service: Mapping[str, Any] | None) -> InForce:
    """The shares of the host's subsets, of those requests for which there is no rule of their own."""
    if virtual_service is None:
        return InForce()
    annotations = virtual_service["metadata"].get("annotations") or {}
    rules = virtual_service.get("spec", {}).get("http") or []
    routes = next((rule.get("route") or [] for rule in rules if not rule.get("match")), [])
    weights: dict[str, int] = {}
    for route in routes:
        place = route["destination"]
        # Istio takes a single route without a weight, or with one of 0, for all requests.
        weight = route.get("weight", 0) if len(routes) > 1 else 100
        if place["host"] == host and place.get("subset") and weight:
            weights[place["subset"]] = weights.get(place["subset"], 0) + weight
    return InForce(weights=weights, record=parse(annotations.get(ANNOTATION, "")))


def dump(record: Record, *, preview: bool = False) -> str:
    """A step as the annotation's text; in a preview without counts, which go on: two previews are the same."""
    counts = {name: [count.requests, count.errors] for name, count in sorted(record.counts.items())}
    return json.dumps(
        {
            "from": record.source,
            "to": record.target,
            "at": record.at,
            "requestsAndErrors": AFTER_UP if preview else counts,
        }
    )


def parse(text: str) -> Record | None:
    """The inverse of `dump`; None for what it has not written."""
    try:
        raw = json.loads(text)
        counts = {
            str(name): Count(requests=int(requests), errors=int(errors))
            for name, (requests, errors) in raw["requestsAndErrors"].items()
        }
        return Record(source=str(raw["from"]), target=str(raw["to"]), at=int(raw["at"]), counts=counts)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
