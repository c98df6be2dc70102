"""The one form in which a mistake in a stack's configuration is told: `path: what is wrong (got ...), what is right`.

Every check yields `Problem`s instead of raising, so that a user sees all of them at once.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_LOGIN = re.compile(r"//[^/@\s]*@")
_SHOWN = 60
"""Characters of a value that a message repeats."""

UNSHOWN = object()
"""Stands for a value that a message must not, or need not, repeat."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One mistake in the configuration."""

    path: str
    what: str
    got: Any = UNSHOWN
    right: str

    @property
    def section(self) -> str:
        """The top-level key that the problem is in."""
        return re.split(r"[.\[]", self.path, maxsplit=1)[0]

    def __str__(self) -> str:
        """Return the line a user reads."""
        got = "" if self.got is UNSHOWN else f" (got {show(self.got)})"
        return f"{self.path}: {self.what}{got}, {self.right}"


class SettingsError(Exception):
    """The configuration is wrong; the text lists every problem, a line each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        title = f"the configuration has {count} problem{'' if count == 1 else 's'}:"
        super().__init__("\n".join([title, *(f"  {problem}" for problem in self.problems)]))


class Refused(Exception):
    """A value, or the file it points to, cannot be used: what is wrong, and what would be right."""

    def __init__(self, what: str, right: str) -> None:
        super().__init__(what)
        self.what = what
        self.right = right


def wrong(what: str, right: str) -> PydanticCustomError:
    """Return what a validator raises: what is wrong with the value, and what would be right."""
    return PydanticCustomError("wrong", "{what}", {"what": what, "right": right})


def join(*keys: str | int) -> str:
    """Return the path of a value as a user would write it, keys that hold dots in quotes."""
    path = ""
    for key in keys:
        if isinstance(key, int):
            path += f"[{key}]"
        elif _PLAIN_KEY.fullmatch(key):
            path += f".{key}" if path else key
        else:
            path += f"[{json.dumps(key)}]" if path else json.dumps(key)
    return path


def show(value: Any) -> str:
    """Return a short text for a value in a message; never a private key, never more than a line."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str() if "PRIVATE KEY" in value:
            return "a private key"
        case str():
            text = _LOGIN.sub("//[hidden]@", value)
            quoted = json.dumps(text, ensure_ascii=not text.isprintable())
            return quoted if len(quoted) <= _SHOWN else f'{quoted[: _SHOWN - 4]}..."'
        case int() | float():
            return f"the number {value}"
        case dict():
            return f"a mapping of {len(value)}"
        case list() | tuple():
            return f"a list of {len(value)}"
        case _:
            return type(value).__name__
