"""Whatever is done to a right stack, it parses or is refused with paths, never anything else."""

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from settings import Settings, SettingsError, parse
from settings.models import StackConfig
from settings.translate import keys_of

KEYS = st.sampled_from(["name", "port", "ssh", "vms", "address", "hostKey", "httpGet", "a.b/c", "", "é", "values"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 70000),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["id", "sums", "known_hosts", "charts", "http://[", "10.0.0.1", "~x/y", "\0", "\ud800", "a" * 300]),
)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=2) | st.dictionaries(KEYS, v, max_size=2), max_leaves=4)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of everything in a stack but the stack itself."""
    inner = value.items() if isinstance(value, dict) else ()
    return [place for key, child in inner for place in ((*path, key), *_places(child, (*path, key)))]


@st.composite
def spoiled(draw: st.DrawFn, stack: dict[str, Any]) -> dict[str, Any]:
    """Return a copy of a stack with keys dropped, renamed or given other values."""
    stack = copy.deepcopy(stack)
    for _ in range(draw(st.integers(1, 3))):
        places = _places(stack)
        if not places:
            break
        *above, key = draw(st.sampled_from(places))
        here = stack
        for step in above:
            here = here[step]
        value = here.pop(key)
        match draw(st.sampled_from(["drop", "rename", "retype", "number"])):
            case "rename":
                here[draw(st.text(max_size=6)) or f"{key}x"] = value
            case "retype":
                here[key] = draw(VALUES)
            case "number":
                here[draw(st.integers(0, 9))] = value
    return stack


TRAFFIC = {
    "billing.vm-apps.svc.cluster.local": {
        "subsets": {"v2": {"version": "v2"}, "all": {"app": "billing"}},
        "routes": [{"subset": "v2", "weight": 90}, {"subset": "all", "weight": 10}],
        "timeout": "2s",
        "retries": {"attempts": 2, "perTryTimeout": "2s", "retryOn": "5xx,503"},
        "mirror": {"host": "next.shop.svc.cluster.local", "port": 80, "percent": 10},
        "matches": [
            {"headers": {"x-user": {"exact": "me"}, "x-trace": {"present": True}}, "routes": [{"subset": "v2"}]},
            {"path": {"regex": "/v[12]/.*"}, "method": "GET", "fault": {"delay": {"fixedDelay": "1s", "percent": 5}}},
        ],
        "connectionPool": {"tcp": {"maxConnections": 1}, "http": {"idleTimeout": "1m"}},
        "outlierDetection": {"consecutive5xxErrors": 3, "consecutiveGatewayErrors": 2, "interval": "1s"},
        "loadBalancer": {
            "simple": "RANDOM",
            "locality": {"failover": {"eu": "us"}, "failoverPriority": ["version=v2"]},
        },
    },
    "next.shop.svc.cluster.local": {"loadBalancer": {"locality": {"distribute": {"eu/a": {"eu/a": 80, "us": 20}}}}},
}


@pytest.mark.parametrize("traffic", [{}, TRAFFIC])
def test_what_is_spoiled_was_right(traffic: dict[str, Any], stack: dict[str, Any], project: Path) -> None:
    assert isinstance(parse({**stack, "traffic": traffic}, project_dir=project), Settings)


@pytest.mark.parametrize("traffic", [{}, TRAFFIC])
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parses_or_is_refused(
    traffic: dict[str, Any], data: st.DataObject, stack: dict[str, Any], project: Path
) -> None:
    try:
        assert isinstance(parse(data.draw(spoiled({**stack, "traffic": traffic})), project_dir=project), Settings)
    except SettingsError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.path
            assert problem.what
            assert problem.right
            assert "docs/configuration.md" not in problem.right, "a kind of error without its own words"
            assert "\n" not in str(problem)


@given(st.dictionaries(st.one_of(st.sampled_from(keys_of(StackConfig)), st.text()), VALUES))
def test_anything_is_refused_with_paths(raw: dict[str, Any]) -> None:
    try:
        parse(raw, project_dir=Path("/nonexistent"))
    except SettingsError as error:
        assert {"cluster", "istio", "hosts"} <= {problem.section for problem in error.problems}
    else:
        raise AssertionError("none of these is a stack")
