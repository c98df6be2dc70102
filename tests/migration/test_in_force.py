"""What a VirtualService says of a migration."""

from __future__ import annotations

from typing import Any

import pytest

from migration.decision import Count, InForce, Record
from migration.in_force import ANNOTATION, dump, in_force, parse

HOST = "billing.vm-apps.svc.cluster.local"
RECORD = Record(source="vm", target="pods", at=30, counts={"vm b": Count(requests=7, errors=1), "pod a": Count()})


def route(subset: str | None, weight: int | None = None, host: str = HOST) -> dict[str, Any]:
    place = {"host": host} | ({"subset": subset} if subset else {})
    return {"destination": place} | ({"weight": weight} if weight is not None else {})


def virtual_service(*rules: dict[str, Any], annotation: str | None = None) -> dict[str, Any]:
    annotations = {ANNOTATION: annotation} if annotation is not None else None
    return {"metadata": {"annotations": annotations}, "spec": {"hosts": [HOST], "http": list(rules)}}


def test_a_record_and_its_text() -> None:
    text = dump(RECORD)
    assert text == '{"from": "vm", "to": "pods", "at": 30, "requestsAndErrors": {"pod a": [0, 0], "vm b": [7, 1]}}'
    assert parse(text) == RECORD


def test_two_previews_of_a_step_are_the_same() -> None:
    text = dump(RECORD, preview=True)
    assert text == '{"from": "vm", "to": "pods", "at": 30, "requestsAndErrors": "known after up"}'
    assert parse(text) is None


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "{}", '{"from": "a", "to": "b", "at": 1, "requestsAndErrors": {"c": 1}}']
)
def test_what_nobody_here_has_written_is_no_record(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("rules", "weights"),
    [
        ([{"route": [route("vm", 70), route("pods", 30)]}], {"vm": 70, "pods": 30}),
        ([{"route": [route("vm", 100), route("pods", 0)]}], {"vm": 100}),
        ([{"route": [route("pods")]}], {"pods": 100}),
        ([{"route": [route("pods", 0)]}], {"pods": 100}),
        ([{"route": [route(None)]}], {}),
        ([{"route": [route("vm", 90), route("pods", 10, host="other.vm-apps.svc.cluster.local")]}], {"vm": 90}),
        # A rule for some requests says nothing of the others.
        ([{"match": [{}], "route": [route("pods")]}, {"route": [route("vm", 100)]}], {"vm": 100}),
        ([], {}),
    ],
)
def test_shares_in_force(rules: list[dict[str, Any]], weights: dict[str, int]) -> None:
    assert in_force(HOST, virtual_service(*rules)) == InForce(weights=weights)


def test_the_record_stands_beside_the_shares() -> None:
    found = in_force(HOST, virtual_service({"route": [route("vm")]}, annotation=dump(RECORD)))
    assert found == InForce(weights={"vm": 100}, record=RECORD)


def test_no_virtual_service_is_nothing_in_force() -> None:
    assert in_force(HOST, None) == InForce()
