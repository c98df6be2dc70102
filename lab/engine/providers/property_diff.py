"""Compares two property values and names every place where they differ, as Pulumi's detailed diffs do.

All providers here decide on updates and replacements by such paths, so that previews read the same for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lab.engine.providers.base import Diff, PropertyDiff
from lab.engine.values import UNKNOWN

Path = tuple[str | int, ...]
_ABSENT: Final = object()
_PLAIN_KEY: Final = re.compile(r'[^."\[\]]+')


def render(path: Path) -> str:
    """Write a path as Pulumi does: `spec.ports[0]`, `metadata.labels["app.kubernetes.io/name"]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif not _PLAIN_KEY.fullmatch(part):
            text += '["' + part.replace('"', '\\"') + '"]'
        else:
            text += f".{part}" if text else part
    return text


def changes(old: Any, new: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield (path, `add` | `delete` | `update`) for each difference, each at the highest place that tells it all.

    A value that is not known yet counts as different. None and absence are the same, as on the wire.
    """
    old, new = (_ABSENT if value is None else value for value in (old, new))
    if old is _ABSENT and new is _ABSENT:
        return
    if new is _ABSENT:
        yield path, "delete"
    elif old is _ABSENT:
        yield path, "add"
    elif new is UNKNOWN or old is UNKNOWN:
        yield path, "update"
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from changes(old.get(key), new.get(key), (*path, key))
    elif _is_list(old) and _is_list(new):
        for index in range(max(len(old), len(new))):
            before, after = (items[index] if index < len(items) else None for items in (old, new))
            yield from changes(before, after, (*path, index))
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield path, "update"


def diff(old: Any, new: Any, replacing: Sequence[Path] = (), *, delete_before_replace: bool = False) -> Diff:
    """Compare inputs; a change at or below (or one that swallows) a path of `replacing` forces a replacement."""
    detailed: dict[str, PropertyDiff] = {}
    replace: list[str] = []
    for path, kind in changes(old, new):
        name = render(path)
        if any(_touches(path, forced) for forced in replacing):
            replace.append(name)
            kind += "-replace"
        detailed[name] = PropertyDiff(kind)
    return Diff(bool(detailed), tuple(replace), bool(replace) and delete_before_replace, detailed)


def _touches(path: Path, forced: Path) -> bool:
    return path[: len(forced)] == forced or forced[: len(path)] == path


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
