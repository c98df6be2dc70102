"""YAML as go-yaml writes it: what it writes can be read again, and its choices are go-yaml's."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosts import go_yaml

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x85\u2028\u2029\ufeff\r"), max_size=120)
VALUES = st.recursive(
    TEXT | st.integers(-(2**31), 2**31) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT.map(lambda key: key[:20]), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["a", "B", "key one", "9", "-"]), VALUES, min_size=1))
def test_what_is_written_reads_back(value: dict[str, Any]) -> None:
    assert go_yaml.load(go_yaml.dump(value)) == value


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain text", "plain text"),
        ("", '""'),
        ("true", '"true"'),
        ("Yes", '"Yes"'),
        ("8080", '"8080"'),
        ("1.10", '"1.10"'),
        ("1e3", '"1e3"'),
        ("12e9999999", "12e9999999"),
        ("0x1F", '"0x1F"'),
        ("2026-08-27", '"2026-08-27"'),
        ("2026-13-27", "2026-13-27"),
        ("1:30", '"1:30"'),
        ("v1", "v1"),
        ("- x", "'- x'"),
        ("a: b", "'a: b'"),
        ("it's: so", "'it''s: so'"),
        (" padded", "' padded'"),
        ("two\nlines\n", "|\n  two\n  lines"),
        ("no end\nhere", "|-\n  no end\n  here"),
        ("tab\there", r'"tab\there"'),
        ("\U0001f600", r'"\U0001F600"'),
    ],
)
def test_scalars_take_go_yamls_style(text: str, written: str) -> None:
    assert go_yaml.dump({"k": text}) == f"k: {written}\n"


def test_long_text_is_wrapped_at_spaces() -> None:
    first, rest = "word " * 15 + "word", "word word"
    assert go_yaml.dump({"k": f"{first} {rest}"}) == f"k: {first}\n  {rest}\n"


def test_keys_are_in_natural_order() -> None:
    written = go_yaml.dump(dict.fromkeys(["b10", "b9", "B1", "a", "_z", "b010"], 1))
    assert [line.partition(":")[0] for line in written.splitlines()] == ["_z", "B1", "a", "b9", "b10", "b010"]


def test_lists_stand_at_their_keys_column() -> None:
    assert go_yaml.dump({"a": {"b": [{"c": 1, "d": []}, "x"]}}) == "a:\n  b:\n  - c: 1\n    d: []\n  - x\n"
