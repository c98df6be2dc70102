"""Presets: what each says, and what lies over what."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.presets import PRESETS, istiod_preset, layered
from components.values import deep_merge, istiod_values, mesh_config
from settings.models import Istio

Layer = dict[str, Any]
leaves = st.dictionaries(st.sampled_from("ab"), st.integers(0, 3) | st.dictionaries(st.sampled_from("xy"), st.none()))


@given(leaves, leaves, leaves)
def test_each_layer_lies_over_those_before_it(first: Layer, second: Layer, third: Layer) -> None:
    assert layered(first, second, third) == deep_merge(deep_merge(first, second), third)
    assert layered(first) == first
    assert layered() == {}


def test_layers_are_left_as_they_are() -> None:
    under = {"a": {"b": 1}}
    assert layered(under, {"a": {"c": 2}}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}
    assert under == {"a": {"b": 1}}


def test_a_stack_can_name_each_of_them_and_no_other() -> None:
    for name in PRESETS:
        assert Istio.model_validate({"version": "1.31.1", "preset": name}).preset == name
    with pytest.raises(ValueError, match=", ".join(map(repr, [*PRESETS][:-1])) + " or 'lab'"):
        Istio.model_validate({"version": "1.31.1", "preset": "demo"})


def test_the_default_says_nothing() -> None:
    assert (PRESETS["default"].istiod, PRESETS["default"].gateway) == ({}, {})


def test_a_cluster_without_istiod_tells_the_one_elsewhere_who_it_is() -> None:
    values = istiod_preset("remote", cluster="c2", network="net2")
    assert values["istiodRemote"] == {"injectionPath": "/inject/cluster/c2/net/net2"}
    assert values["profile"] == "remote"
    assert istiod_preset("minimal", cluster="c2", network="net2") == PRESETS["minimal"].istiod
    own = {"hub": "h", "tag": "t", "mesh_id": "m", "trust_domain": "cluster.local", "cluster": "c2", "network": "net2"}
    made = mesh_config(istiod_values(extra=values, revision="", **own))
    assert "defaultProviders" not in made
