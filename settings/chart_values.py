"""Values of charts: whatever JSON can say, as that is how Helm gets them."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from settings.problems import Refused, join, show
from settings.scalars import Kind


def check_values(values: Any) -> None:
    """Refuse values that Helm cannot be given, by the first thing that is wrong with them."""
    for path, what, right in _unwritable(values):
        raise Refused(f"{path} {what}" if path else what, right)


def _unwritable(value: Any, *path: str | int) -> Iterator[tuple[str, str, str]]:
    """Yield where something is that JSON cannot say, what it is, and what would be right."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(key, str):
                yield from _unwritable(key, *path)
                yield from _unwritable(inner, *path, key)
            else:
                yield join(*path), f"has {show(key)} as a key", "text; put it in quotes"
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _unwritable(inner, *path, index)
    elif isinstance(value, str):
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            yield join(*path), "is not text that can be written", "text without lone surrogates"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield join(*path), f"is {show(value)}", "a number that is finite"
    elif not isinstance(value, bool | int | None):
        yield join(*path), f"is of the kind {show(value)}", "text, numbers, true, false, lists and mappings"


Writable = Kind("values of a chart", check_values)
"""Checks that JSON can say values."""
