"""Property values and paths: nothing is lost between the SDK, the engine and state."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.engine import diffs
from lab.engine.providers.base import Diff
from lab.engine.urns import inherited, make, parse
from lab.engine.values import (
    UNKNOWN,
    ResourceReference,
    Secret,
    copy_secrets,
    decode,
    encode,
    from_struct,
    has_secret,
    has_unknown,
    redact,
    secret_strings,
    strip_secrets,
    to_struct,
    veil,
)

SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
LEAVES = SCALARS | st.text() | st.just(UNKNOWN) | st.builds(Secret, st.text() | st.lists(st.text()))
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(), VALUES))
def test_the_wire_keeps_values(values):
    assert from_struct(to_struct(values)) == values


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_state_keeps_values_and_hides_secrets(value):
    hidden: list[object] = []

    def seal(content: object) -> dict[str, object]:
        hidden.append(content)
        return {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "at": len(hidden) - 1}

    assert decode(encode(value, seal), lambda wire: hidden[wire["at"]]) == value
    assert bool(hidden) == has_secret(value)
    assert not has_secret(strip_secrets(value))


def test_references_outputs_and_assets_on_the_wire():
    sent = {"r": ResourceReference("urn", "id")}
    assert from_struct(to_struct(sent)) == sent
    asset = {"4dabf18193072939515e22adb298388d": "c44067f5952c0a294b673a41bacd8c17"}
    with pytest.raises(ValueError, match="supports files only"):
        decode(asset | {"text": "x"})
    with pytest.raises(ValueError, match="nowhere: No such file"):
        decode(asset | {"path": "nowhere"})
    output = {"4dabf18193072939515e22adb298388d": "d0e6a833031e9bbcd3f4e8bde6ca49a4"}
    assert decode([output, output | {"value": 1.0}, output | {"value": "s", "secret": True}]) == [
        UNKNOWN,
        1,
        Secret("s"),
    ]


def test_secrets_follow_values():
    inputs = {"a": Secret("p"), "b": {"c": Secret("long-enough"), "d": 1}, "l": [1, Secret("x")]}
    outputs = copy_secrets({"a": "p", "b": {"c": "q", "d": 1, "e": 2}, "l": [1, 2], "z": 0}, inputs)
    assert outputs == {"a": Secret("p"), "b": {"c": Secret("q"), "d": 1, "e": 2}, "l": Secret([1, 2]), "z": 0}
    assert redact(outputs)["l"] == "[secret]"
    assert veil({"x": ["is long-enough.", "no"]}, inputs) == {"x": [Secret("is long-enough."), "no"]}
    connection = Secret({"host": "10.77.0.21", "key": "a-private-key-of-length"})
    assert secret_strings({"c": connection, "p": Secret("word")}, inside=16) == {"a-private-key-of-length", "word"}
    assert "word" not in repr(Secret("word"))
    assert has_unknown(Secret({"a": [UNKNOWN]}))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a", ("a",)),
        ("a.b[0].c", ("a", "b", 0, "c")),
        ('metadata.labels["app.io/x"]', ("metadata", "labels", "app.io/x")),
        ('["a.b"].c', ("a.b", "c")),
        (r'a["say \"hi\" [1]"]', ("a", 'say "hi" [1]')),
        ("a[*].b", ("a", "*", "b")),
    ],
)
def test_paths(text, path):
    assert diffs.parse_path(text) == path
    if "*" not in path:
        assert diffs.format_path(path) == text


def test_comparison_and_what_is_done_with_it():
    old = {"a": {"b": [1, 2], "s": Secret("x")}, "gone": None, "k": {"x.y": 1}}
    new = {"a": {"b": [1, 3, 4], "s": Secret("y")}, "k": {"x.y": 2}, "new": {"n": 1}}
    found = diffs.compare(old, new)
    assert found == {
        "a.b[1]": "update",
        "a.b[2]": "add",
        "a.s": "update",
        "gone": "delete",
        'k["x.y"]': "update",
        "new": "add",
    }
    diff = diffs.complete(Diff(changed=True), old, new, ["a.b[*]"])
    assert diff.replace == ("a.b[1]", "a.b[2]")
    assert diff.detailed["a.b[2]"] == "add-replace"
    assert diffs.complete(Diff(changed=True, replace=("gone",)), old, new, []).detailed["gone"] == "delete-replace"
    assert diffs.complete(Diff(changed=False), old, new, ["*"]).replace == ()
    assert diffs.get({"a": Secret({"b": 1})}, ("a", "b")) == Secret(1)


def test_ignored_changes():
    old = {"a": {"b": 1, "c": 2}, "l": [{"x": 1, "y": 1}, {"x": 2}], "only_old": 1}
    new = {"a": {"b": 9, "c": 9}, "l": [{"x": 9, "y": 9}, {"x": 9}], "only_new": 1}
    result = diffs.ignore_changes(new, old, ["a.b", "l[*].x", "only_new", "only_old", "no.such"])
    assert result == {"a": {"b": 1, "c": 9}, "l": [{"x": 1, "y": 9}, {"x": 2}], "only_old": 1}
    assert new["a"] == {"b": 9, "c": 9}


def test_urns_and_former_names():
    stack = "urn:pulumi:dev::demo::pulumi:pulumi:Stack::demo-dev"
    parent = make("dev", "demo", stack, "m:i:Group", "g")
    child = make("dev", "demo", parent, "k:c/v1:Pod", "g-pod::x")
    assert child == "urn:pulumi:dev::demo::m:i:Group$k:c/v1:Pod::g-pod::x"
    assert (parse(child).type, parse(child).name) == ("k:c/v1:Pod", "g-pod::x")
    former = "urn:pulumi:dev::demo::m:i:Old::f"
    assert inherited(child, parent, former) == "urn:pulumi:dev::demo::m:i:Old$k:c/v1:Pod::f-pod::x"
