"""When a step is taken, and why one is not."""

from __future__ import annotations

from typing import Any

import pytest

from migration.decision import Count, InForce, Member, Record, Refusal, Step, Wanted, decide


def wanted(at: int, source: str = "vm", target: str = "pods", **limits: Any) -> Wanted:
    return Wanted(source=source, target=target, at=at, **limits)


def now(at: int, source: str = "vm", target: str = "pods", **counts: tuple[int, int]) -> InForce:
    """A share that a step led to; proxies' requests and errors by then."""
    before = {name: Count(requests=requests, errors=errors) for name, (requests, errors) in counts.items()}
    shares = {source: 100 - at, target: at}
    return InForce(
        weights={subset: share for subset, share in shares.items() if share},
        record=Record(source=source, target=target, at=at, counts=before),
    )


def member(name: str = "a", requests: int | None = 100, errors: int = 0, unhealthy: str = "") -> Member:
    count = None if requests is None else Count(requests=requests, errors=errors)
    return Member(name=name, unhealthy=unhealthy, count=count, unread="" if count else "no answer within 9 s")


def told(in_force: InForce, to: Wanted, **sides: list[Member]) -> list[str]:
    found = decide(in_force, to, {"vm": [], "pods": [], **sides})
    assert isinstance(found, Refusal), found
    return [f"{reason.what} -> {reason.right}" for reason in found.reasons]


def taken(in_force: InForce, to: Wanted, **sides: list[Member]) -> Step:
    found = decide(in_force, to, {"vm": [], "pods": [], **sides})
    assert isinstance(found, Step), found
    assert found.weights == to.weights
    return found


MENDED = "30 until that is mended, or less to go back"


def test_a_step_is_written_down_with_what_the_target_had_counted() -> None:
    step = taken(now(30, a=(80, 1)), wanted(40), pods=[member("a", 105, 1), member("b", 2)])
    assert step.weights == {"vm": 60, "pods": 40}
    counts = {"a": Count(requests=105, errors=1), "b": Count(requests=2)}
    assert step.record == Record(source="vm", target="pods", at=40, counts=counts)
    assert step.taken


def test_what_is_in_force_stays_with_its_record_and_needs_no_evidence() -> None:
    in_force = now(30, a=(80, 1))
    step = taken(in_force, wanted(30))
    assert step.record is in_force.record
    assert not step.taken


@pytest.mark.parametrize(("at", "step"), [(41, 10), (100, 10), (100, 69)])
def test_a_step_that_is_too_long(at: int, step: int) -> None:
    (reason,) = told(now(30), wanted(at, step=step), pods=[member(unhealthy="is not ready")])
    assert reason == f"pods would go from 30 % to {at} %, by more than step, {step} -> at most {30 + step} now"


def test_the_longest_step_that_is_allowed() -> None:
    taken(now(30), wanted(40, step=10), pods=[member()])
    taken(now(30), wanted(100, step=70), pods=[member()])


def test_too_few_healthy_endpoints() -> None:
    ill = [member(name, unhealthy="is not ready") for name in "bcdef"]
    assert told(now(30), wanted(40), pods=[]) == [
        f"pods has 0 healthy endpoints, fewer than minHealthy, 1, and no other ones -> {MENDED}"
    ]
    assert told(now(30), wanted(40, min_healthy=2), pods=[member("a"), *ill]) == [
        "pods has 1 healthy endpoint, fewer than minHealthy, 2: b is not ready; c is not ready; d is not ready;"
        f" and 2 more -> {MENDED}"
    ]
    taken(now(30), wanted(40, min_healthy=2), pods=[member("a"), member("b"), *ill])


def test_the_first_requests_need_healthy_endpoints_only() -> None:
    taken(now(0), wanted(10), pods=[member(requests=None)])
    assert told(now(0), wanted(10), pods=[member(unhealthy="is not ready")]) == [
        "pods has 0 healthy endpoints, fewer than minHealthy, 1: a is not ready -> 0 until that is mended"
    ]


def test_errors_are_those_since_the_last_step() -> None:
    taken(now(30, a=(1000, 900)), wanted(40), pods=[member("a", 1100, 901)])
    assert told(now(30, a=(1000, 900)), wanted(40), pods=[member("a", 1100, 902)]) == [
        f"2 of 100 requests to pods failed since it got 30 %, 2 %, more than maxErrorRate, 1 % -> {MENDED}"
    ]
    taken(now(30, a=(1000, 900)), wanted(40, max_error_rate=2), pods=[member("a", 1100, 902)])


def test_a_proxy_that_has_started_anew_counts_from_there() -> None:
    assert told(now(30, a=(1000, 0)), wanted(40), pods=[member("a", 50, 5)]) == [
        f"5 of 50 requests to pods failed since it got 30 %, 10 %, more than maxErrorRate, 1 % -> {MENDED}"
    ]


def test_without_a_record_of_the_target_all_that_its_proxies_know_counts() -> None:
    in_force = InForce(weights={"vm": 70, "pods": 30})
    assert told(in_force, wanted(40), vm=[member()], pods=[member("a", 50, 5)]) == [
        f"5 of 50 requests to pods failed since its proxies started, 10 %, more than maxErrorRate, 1 % -> {MENDED}"
    ]


def test_too_few_requests_say_nothing() -> None:
    assert told(now(30, a=(10, 0)), wanted(40), pods=[member("a", 29)]) == [
        f"the proxies of pods have counted 19 requests since it got 30 %, fewer than minRequests, 20 -> {MENDED}"
    ]
    taken(now(30, a=(10, 0)), wanted(40), pods=[member("a", 30)])
    taken(now(30, a=(10, 0)), wanted(40, min_requests=0), pods=[member("a", 10)])


def test_a_proxy_that_cannot_be_asked_is_no_evidence() -> None:
    assert told(now(30), wanted(40, min_requests=0), pods=[member("a", 1000), member("b", None)]) == [
        f"the counters of pods could not be read: b: no answer within 9 s -> {MENDED}"
    ]


@pytest.mark.parametrize("at", [0, 1, 29])
def test_going_back_is_always_allowed(at: int) -> None:
    step = taken(now(30, a=(10, 0)), wanted(at, step=1), vm=[], pods=[member("a", None, unhealthy="is not ready")])
    assert step.record.at == at
    # What is written down then is where the next step's errors are counted from.
    assert taken(now(30), wanted(at), pods=[member("a", 500, 400)]).record.counts == {
        "a": Count(requests=500, errors=400)
    }


def test_a_finished_migration_turns_round_as_a_new_one() -> None:
    finished = now(100)
    assert taken(finished, wanted(0, "pods", "vm")).weights == {"pods": 100}
    assert told(finished, wanted(10, "pods", "vm"), vm=[]) == [
        "vm has 0 healthy endpoints, fewer than minHealthy, 1, and no other ones -> 0 until that is mended"
    ]
    taken(finished, wanted(10, "pods", "vm"), vm=[member()])


def test_turning_round_half_way_is_no_way_past_the_guards() -> None:
    half = now(50, a=(100, 0))
    # pods, the old target, would gain by a new migration that goes back to where it comes from.
    assert told(half, wanted(30, "pods", "vm"), pods=[member()]) == [
        "pods would go from 50 % to 70 %, by more than step, 10 -> at least 40 now"
    ]
    assert told(half, wanted(40, "pods", "vm"), pods=[member("a", 200, 50)]) == [
        "50 of 100 requests to pods failed since it got 50 %, 50 %, more than maxErrorRate, 1 %"
        " -> 50 until that is mended"
    ]
    taken(half, wanted(40, "pods", "vm"), pods=[member("a", 200, 0)])
    # And vm, which gains by the new one, is judged by all that its proxies have counted.
    assert told(half, wanted(60, "pods", "vm"), vm=[member("v", 200, 50)]) == [
        "50 of 200 requests to vm failed since its proxies started, 25 %, more than maxErrorRate, 1 %"
        " -> 50 until that is mended, or less to go back"
    ]


def test_a_migration_begins_where_the_requests_are_to_come_from() -> None:
    nothing = InForce()
    assert told(nothing, wanted(0), vm=[member(unhealthy="is not ready")], pods=[member()]) == [
        "vm has 0 healthy endpoints: a is not ready -> begin when that is mended"
    ]
    assert taken(nothing, wanted(0, min_healthy=9), vm=[member(requests=None)]).weights == {"vm": 100}
    other = InForce(weights={"vm": 40, "canary": 60})
    assert taken(other, wanted(0), vm=[member(requests=None)]).weights == {"vm": 100}
    assert told(nothing, wanted(50), vm=[member()], pods=[member()]) == [
        "pods would go from 0 % to 50 %, by more than step, 10 -> at most 10 now"
    ]


def test_vms_without_a_sidecar_may_be_where_a_migration_begins_and_nothing_else() -> None:
    legacy = Member(name="a", unhealthy="has no sidecar", unjudged=True, unread="has no sidecar")
    taken(InForce(), wanted(0), vm=[legacy])
    assert told(InForce(), wanted(0), vm=[member(unhealthy="is not ready")])
    assert told(now(0, "pods", "vm"), wanted(10, "pods", "vm"), vm=[legacy]) == [
        "vm has 0 healthy endpoints, fewer than minHealthy, 1: a has no sidecar -> 0 until that is mended"
    ]


@pytest.mark.parametrize("at", [0, 60, 100])
def test_where_nothing_serves_yet_there_is_nobody_to_harm(at: int) -> None:
    assert taken(InForce(), wanted(at)).record == Record(source="vm", target="pods", at=at)
