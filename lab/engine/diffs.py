"""Property paths and the comparison of property values, the part of a diff that needs no provider."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lab.engine.providers.base import Diff, Values
from lab.engine.values import Secret, make_secret, strip_secrets

Path = tuple[str | int, ...]
_STEP = re.compile(r'\["((?:[^"\\]|\\.)*)"\]|\[(\d+|\*)\]|\.?([^.\[\]]+)')
MISSING = object()


def parse_path(text: str) -> Path:
    """Read `a.b[0]["c.d"]`; `*` stands for any key or index."""
    steps: list[str | int] = []
    for quoted, index, name in _STEP.findall(text):
        steps.append(int(index) if index.isdigit() else index or name or re.sub(r"\\(.)", r"\1", quoted))
    return tuple(steps)


def format_path(path: Path) -> str:
    """Write a path as Pulumi does."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z_$][\w$]*", step):
            text += f".{step}" if text else step
        else:
            text += '["' + step.replace("\\", "\\\\").replace('"', '\\"') + '"]'
    return text


def get(value: Any, path: Path) -> Any:
    """Return what lies at a path, wrapped as secret if anything on the way is, or MISSING."""
    if isinstance(value, Secret):
        found = get(value.value, path)
        return found if found is MISSING else make_secret(found)
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(value, Mapping) and step in value:
        return get(value[step], rest)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return get(value[step], rest)
    return MISSING


def compare(old: Any, new: Any, path: Path = ()) -> dict[str, str]:
    """Return the leaves that differ, by path; secrets count by their content."""
    old, new = (item.value if isinstance(item, Secret) else item for item in (old, new))
    keys: Iterable[str | int] | None = None
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted({*old, *new})
    elif isinstance(old, list) and isinstance(new, list):
        keys = range(max(len(old), len(new)))
    if keys is not None:
        found: dict[str, str] = {}
        for key in keys:
            found |= compare(get(old, (key,)), get(new, (key,)), (*path, key))
        return found
    if strip_secrets(old) == strip_secrets(new):
        return {}
    kind = "add" if old is MISSING else "delete" if new is MISSING else "update"
    return {format_path(path): kind}


def diff_inputs(old: Values, new: Values, forced: Sequence[Path] = (), *, delete_before_replace: bool = False) -> Diff:
    """Compare inputs; for a provider to which nothing else matters.

    Args:
        old: The inputs that the resource was made with.
        new: Those that it is to have.
        forced: A change at or below one of these paths (or one that swallows it) forces a replacement.
        delete_before_replace: Whether the old resource must go before the new one can come.
    """
    detailed = compare(old, new)
    paths = {text: parse_path(text) for text in detailed}
    replaced = tuple(text for text, path in paths.items() if any(covers(p, path) or covers(path, p) for p in forced))
    return Diff(bool(detailed), replaced, bool(replaced) and delete_before_replace, detailed)


def covers(pattern: Path, path: Path) -> bool:
    """Tell whether a path lies at or under a pattern."""
    return len(pattern) <= len(path) and all(want in ("*", have) for want, have in zip(pattern, path, strict=False))


def ignore_changes(new: Mapping[str, Any], old: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """Return new inputs with the old ones' values at the given paths."""
    result: dict[str, Any] = copy.deepcopy(dict(new))
    for text in paths:
        _reset(result, old, parse_path(text))
    return result


def _reset(new: Any, old: Any, path: Path) -> None:
    step, rest = path[0], path[1:]
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        keys: Iterable[Any] = {*new, *old} if step == "*" else [step]
    elif isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        keys = range(len(new)) if step == "*" else [step] if isinstance(step, int) and step < len(new) else []
    else:
        return
    for key in keys:
        before = get(old, (key,))
        if rest:
            if get(new, (key,)) is not MISSING and before is not MISSING:
                _reset(new[key], before, rest)
        elif before is not MISSING:
            new[key] = copy.deepcopy(before)
        else:
            new.pop(key, None)


def complete(diff: Diff, old: Mapping[str, Any], new: Mapping[str, Any], replace_on_changes: Sequence[str]) -> Diff:
    """Fill in the paths where the provider named none, and apply `replaceOnChanges`."""
    if not diff.changed:
        return diff
    detailed = dict(diff.detailed) or compare(old, new)
    forced = set(diff.replace) | {path for path, change in detailed.items() if change.endswith("-replace")}
    patterns = [parse_path(text) for text in replace_on_changes]
    forced |= {path for path in detailed if any(covers(pattern, parse_path(path)) for pattern in patterns)}
    for path in forced & detailed.keys():
        detailed[path] = f"{detailed[path].removesuffix('-replace')}-replace"
    return replace(diff, detailed=detailed, replace=tuple(sorted(forced)))
