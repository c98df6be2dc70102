"""What several readers share of a cluster."""

from typing import Any

from cluster.objects import ENTRIES, at_one_moment, items, live_istiods

PODS = "/api/v1/namespaces/istio-system/pods?labelSelector=app%3Distiod"


def pod(name: str, phase: str = "Running", **metadata: str) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}, "status": {"phase": phase}}


def test_an_istiod_lives_while_it_runs_and_is_not_terminating() -> None:
    pods = [pod("a"), pod("b", "Pending"), pod("c", deletionTimestamp="2026-11-21T12:00:00Z")]
    found = live_istiods({PODS: {"items": pods}}.get, "istio-system")
    assert [one["metadata"]["name"] for one in found] == ["a"]
    of_revision = {f"{PODS}%2Cistio.io%2Frev%3Dcanary": {"items": pods[:1]}}
    assert live_istiods(of_revision.get, "istio-system", "canary") == pods[:1]


def test_what_is_read_at_one_moment_is_asked_for_once() -> None:
    asked = []

    def get(path: str) -> dict[str, Any]:
        asked.append(path)
        return {"items": [path]}

    once = at_one_moment(get)
    assert items(once, ENTRIES) == items(once, ENTRIES) == [ENTRIES]
    assert asked == [ENTRIES]


def test_a_kind_that_is_not_there_has_no_objects() -> None:
    assert items({}.get, ENTRIES) == []
