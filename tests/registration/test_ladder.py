"""The ladder: every state from the facts that lead to it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registration.ladder import (
    DeclaredVm,
    Evidence,
    Mesh,
    Reachability,
    State,
    climb,
    entry_name,
    find_entry,
    is_complete,
    is_settling,
    needs_controllers,
)

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CREATED = "2026-11-21T08:00:00Z"
UP = Reachability(reachable=True)
DOWN = Reachability(reachable=False, detail="10.77.0.21:22 did not answer within 3 s")
DONE = Evidence(configured=True, confirmed={"ready": True})


def vm(**changes: Any) -> DeclaredVm:
    given = {"name": "billing-1", "namespace": "vm-apps", "workload": "billing", "address": "10.77.0.21"}
    return DeclaredVm(**{**given, "network": "net1", "has_probe": True, **changes})


def moment(ago: timedelta) -> str:
    # istiod writes nanoseconds.
    return (NOW - ago).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")


def entry(
    *,
    connected: timedelta | None = timedelta(minutes=5),
    disconnected: str | None = None,
    checks: bool = True,
    healthy: str | None = "True",
    message: str = "",
    controller: str = "istiod-1",
    **metadata: Any,
) -> dict[str, Any]:
    marks = {"istio.io/autoRegistrationGroup": "billing", "istio.io/workloadController": controller}
    if connected is not None:
        marks["istio.io/connectedAt"] = moment(connected)
    if disconnected:
        marks["istio.io/disconnectedAt"] = disconnected
    if checks:
        marks["proxy.istio.io/health-checks-enabled"] = "true"
    conditions = [{"type": "Other", "status": "True"}]
    if healthy is not None:
        conditions.append(
            {"type": "Healthy", "status": healthy, "message": message, "lastTransitionTime": "2026-11-21T11:50:00Z"}
        )
    return {
        "metadata": {
            "name": "billing-10.77.0.21-net1",
            "namespace": "vm-apps",
            "creationTimestamp": CREATED,
            "annotations": marks,
            **metadata,
        },
        "spec": {"address": "10.77.0.21"},
        "status": {"conditions": conditions},
    }


def mesh(*entries: dict[str, Any], pods: frozenset[str] | None = None, error: str = "") -> Mesh:
    return Mesh(entries=entries, live_controllers=pods, error=error)


OLD = timedelta(minutes=46)

TABLE = {
    "nothing known": (mesh(), None, None, State.DECLARED, "not configured yet"),
    "answers": (mesh(), None, UP, State.REACHABLE, "not configured yet"),
    "silent": (mesh(), None, DOWN, State.UNREACHABLE, DOWN.detail),
    "configured, not connected": (mesh(), DONE, UP, State.CONFIGURED, "no WorkloadEntry: its sidecar is not"),
    "configured, then off": (mesh(), DONE, DOWN, State.UNREACHABLE, DOWN.detail),
    "connected, no health yet": (mesh(entry(healthy=None)), DONE, UP, State.CONNECTED, "the first health report"),
    "healthy": (mesh(entry()), DONE, None, State.HEALTHY, ""),
    "healthy without evidence": (mesh(entry()), None, None, State.HEALTHY, ""),
    "healthy though ssh is closed": (mesh(entry()), DONE, DOWN, State.HEALTHY, ""),
    "unhealthy": (mesh(entry(healthy="False", message="500\n x")), DONE, UP, State.REGISTERED, "unhealthy: 500 x"),
    "unhealthy, ssh closed": (mesh(entry(healthy="False")), DONE, DOWN, State.REGISTERED, "unhealthy: no message"),
    "probe unknown to the entry": (mesh(entry(checks=False)), DONE, UP, State.REGISTERED, "it registered without"),
    "disconnected": (
        mesh(entry(connected=None, disconnected=CREATED)),
        DONE,
        UP,
        State.STALE,
        "the sidecar has disconnected",
    ),
    "disconnected and off": (
        mesh(entry(connected=None, disconnected=CREATED)),
        DONE,
        DOWN,
        State.UNREACHABLE,
        DOWN.detail,
    ),
    "never connected": (mesh(entry(connected=None)), DONE, UP, State.STALE, "no sidecar connected"),
    "old mark, istiod lives": (
        mesh(entry(connected=OLD), pods=frozenset({"istiod-1"})),
        DONE,
        UP,
        State.HEALTHY,
        "",
    ),
    "old mark, istiod gone": (
        mesh(entry(connected=OLD), pods=frozenset({"istiod-2"})),
        DONE,
        UP,
        State.STALE,
        "its istiod pod istiod-1 is gone",
    ),
    "young mark, istiod gone": (mesh(entry(), pods=frozenset()), DONE, UP, State.HEALTHY, ""),
    "changed on the host": (mesh(entry()), Evidence(drift="not as it was left: x"), UP, State.DRIFTED, "not as it"),
    "changed and disconnected": (
        mesh(entry(connected=None)),
        Evidence(configured=True, drift="not as it was left: x"),
        UP,
        State.DRIFTED,
        "not as it was left: x",
    ),
    "changed, and a step failed": (mesh(), Evidence(failed="x", drift="y"), UP, State.FAILED, "x failed or"),
    "a step failed": (mesh(), Evidence(failed="billing-1-enrol"), UP, State.FAILED, "billing-1-enrol failed or"),
    "a step failed, still connected": (
        mesh(entry()),
        Evidence(failed="billing-1-configure"),
        UP,
        State.FAILED,
        "billing-1-configure failed or did not run; the sidecar is still connected",
    ),
    "a step failed, silent": (
        mesh(),
        Evidence(failed="billing-1-configure"),
        DOWN,
        State.UNREACHABLE,
        DOWN.detail,
    ),
    "no API": (mesh(error="the API is down"), DONE, UP, State.CONFIGURED, "the API is down"),
    "no API, nothing done": (mesh(error="the API is down"), None, UP, State.REACHABLE, "the API is down"),
    "no API, silent": (mesh(error="the API is down"), DONE, DOWN, State.UNREACHABLE, DOWN.detail),
}


@pytest.mark.parametrize("case", TABLE)
def test_climb(case: str) -> None:
    facts, evidence, reachability, state, reason = TABLE[case]
    found = climb(vm(), facts, evidence, reachability, NOW)
    assert (found.state, found.reason[: len(reason)]) == (state, reason)
    assert bool(found.reason) == (state is not State.HEALTHY)
    assert bool(found.hint) == (state not in (State.HEALTHY, State.CONNECTED))


def test_without_a_probe_a_connected_entry_is_the_top() -> None:
    found = climb(vm(has_probe=False), mesh(entry(checks=False, healthy=None)), DONE, None, NOW)
    assert (found.state, found.reason, found.hint) == (State.REGISTERED, "", "")
    assert is_complete(found.state, has_probe=False)
    assert not is_complete(found.state, has_probe=True)


def test_since_does_not_change_when_a_sidecar_reconnects() -> None:
    states = [climb(vm(), mesh(entry(connected=timedelta(minutes=m))), DONE, None, NOW) for m in (1, 30)]
    assert states[0] == states[1]
    assert states[0].since == CREATED


def test_a_failed_step_is_named_in_the_hint() -> None:
    assert "billing-1-enrol" in climb(vm(), mesh(), Evidence(failed="billing-1-enrol"), UP, NOW).hint


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("billing", "10.77.0.21", "net1"), "billing-10.77.0.21-net1"),
        (("billing", "10.77.0.21"), "billing-10.77.0.21"),
        (("billing", "fd00::21", "net1"), "billing-fd00--21-net1"),
    ],
)
def test_entry_name(arguments: tuple[str, ...], name: str) -> None:
    assert entry_name(*arguments) == name


def test_a_long_entry_name_keeps_its_end() -> None:
    assert entry_name("x" * 250, "10.77.0.21", "net1") == "x" * 237 + "-10.77.0.21-net1"


def test_find_entry_by_name_before_group_and_address() -> None:
    other = entry(name="billing-10.77.0.21")
    assert find_entry(vm(), (other, entry())) == entry()
    assert find_entry(vm(), (other,)) == other
    assert find_entry(vm(address="10.77.0.22"), (other, entry())) is None
    assert find_entry(vm(namespace="elsewhere"), (other, entry())) is None


@pytest.mark.parametrize(("ago", "needed"), [(timedelta(minutes=44), False), (OLD, True), (None, False)])
def test_pods_are_needed_for_old_marks_only(ago: timedelta | None, needed: bool) -> None:
    assert needs_controllers((entry(connected=ago),), NOW) is needed


def started(ago: timedelta) -> Evidence:
    return Evidence(configured=True, confirmed={"since": moment(ago)})


SECONDS, HOUR = timedelta(seconds=5), timedelta(hours=1)


@pytest.mark.parametrize(
    ("facts", "evidence", "reachability", "settling"),
    [
        (mesh(), DONE, UP, True),
        (mesh(), started(SECONDS), UP, True),
        (mesh(), started(HOUR), UP, False),
        (mesh(), started(SECONDS), DOWN, False),
        (mesh(), Evidence(configured=True), UP, False),
        (mesh(), Evidence(failed="billing-1-enrol"), UP, False),
        (mesh(error="the API is down"), DONE, UP, False),
        (mesh(entry()), started(SECONDS), UP, False),
        (mesh(entry(healthy=None, connected=SECONDS)), started(HOUR), UP, True),
        (mesh(entry(healthy=None, connected=HOUR)), started(HOUR), UP, False),
        # The health changed ten minutes ago.
        (mesh(entry(healthy="False", connected=HOUR)), started(HOUR), UP, False),
        (mesh(entry(healthy="False", connected=HOUR)), started(SECONDS), UP, True),
    ],
)
def test_is_settling(facts: Mesh, evidence: Evidence, reachability: Reachability, settling: bool) -> None:
    state = climb(vm(), facts, evidence, reachability, NOW)
    assert is_settling(vm(), state, facts, evidence, NOW, 60) is settling


moments = st.one_of(
    st.none(), st.just("garbage"), st.just(""), st.timedeltas(timedelta(0), timedelta(days=2)).map(moment)
)


@given(
    connected=moments,
    disconnected=moments,
    health=st.sampled_from([None, "True", "False", "Unknown"]),
    checks=st.booleans(),
    has_probe=st.booleans(),
    controller=st.sampled_from([None, frozenset(), frozenset({"istiod-1"})]),
    evidence=st.sampled_from([None, DONE, Evidence(), Evidence(failed="billing-1-enrol")]),
    reachability=st.sampled_from([None, UP, DOWN]),
    error=st.sampled_from(["", "the API is down"]),
    there=st.booleans(),
)
def test_climb_is_total_and_never_flatters(
    connected: str | None,
    disconnected: str | None,
    health: str | None,
    checks: bool,
    has_probe: bool,
    controller: frozenset[str] | None,
    evidence: Evidence | None,
    reachability: Reachability | None,
    error: str,
    there: bool,
) -> None:
    one = entry(connected=None, disconnected=disconnected, checks=checks, healthy=health)
    if connected is not None:
        one["metadata"]["annotations"]["istio.io/connectedAt"] = connected
    facts = Mesh(entries=(one,) if there else (), live_controllers=controller, error=error)
    found = climb(vm(has_probe=has_probe), facts, evidence, reachability, NOW)
    assert found.reason or is_complete(found.state, has_probe)
    if found.state is State.HEALTHY:
        assert there and connected is not None and health == "True" and checks
        assert not (evidence and evidence.failed)
    if is_complete(found.state, has_probe):
        assert there and connected is not None
