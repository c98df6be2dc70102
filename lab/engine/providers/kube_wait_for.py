"""Reads the `pulumi.com/waitFor` annotation and tells of an object whether it meets it.

Forms: `jsonpath={.status.phase}` (is there), `jsonpath={...}=value`, `condition=Ready`, `condition=Ready=False`, and a
JSON array of these. The paths are those of `kubectl get -o jsonpath`, as far as one value is picked out by them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Step = Callable[[Any], list[Any]]
_TOKEN: Final = re.compile(
    r"""\.?\[\?\(\s*@(?P<filter>[^=!<>]+?)\s*(?P<operator>==|!=)\s*(?P<quote>["']?)(?P<wanted>.*?)(?P=quote)\s*\)\]
    |\.?\[(?P<quoted>'[^']*'|"[^"]*")\]
    |\.?\[(?P<index>-?\d+)\]
    |\.?\[(?P<all>\*)\]
    |\.(?P<name>(?:[^.\[\]\\]|\\.)+)""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class WaitFor:
    """One thing to wait for."""

    text: str
    """As the annotation says it."""
    missing: Callable[[Mapping[str, Any]], str]
    """Tells of an object what it still lacks; "" when it meets the condition."""


def parse(annotation: str) -> list[WaitFor]:
    """Read the annotation.

    Raises:
        ValueError: It is malformed.
    """
    try:
        values = json.loads(annotation)
    except ValueError:
        values = None
    texts = values if isinstance(values, list) else [annotation]
    if not texts:
        raise ValueError("at least one condition must be given")
    return [_one(text) for text in texts]


def _one(text: Any) -> WaitFor:
    if isinstance(text, str) and text.startswith("jsonpath="):
        return _json_path(text)
    if isinstance(text, str) and text.startswith("condition="):
        type_, _, status = text.removeprefix("condition=").partition("=")
        return WaitFor(text, lambda obj: _condition(obj, type_, status or "True"))
    raise ValueError(f'expected a "jsonpath=" or "condition=" prefix, got {text!r}')


def _condition(obj: Mapping[str, Any], type_: str, status: str) -> str:
    for condition in obj.get("status", {}).get("conditions") or []:
        if condition.get("type", "").lower() != type_.lower():
            continue
        observed = condition.get("observedGeneration", obj["status"].get("observedGeneration"))
        if observed is not None and observed < obj.get("metadata", {}).get("generation", 0):
            return f"condition {type_} is of an older generation ({observed})"
        if str(condition.get("status")).lower() == status.lower():
            return ""
        why = ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
        return f"condition {type_} is {condition.get('status')}, not {status}" + (f" ({why})" if why else "")
    return f"condition {type_} is not there"


def _json_path(text: str) -> WaitFor:
    match = re.fullmatch(r"\{\s*(?P<path>.*?)\s*\}(?:=(?P<value>.*))?", text.removeprefix("jsonpath="))
    if match is None:
        raise ValueError(f"{text!r} should be jsonpath={{.path}} or jsonpath={{.path}}=value")
    path, wanted = match["path"], match["value"]
    if wanted == "":
        raise ValueError(f"{text!r} has no value after =")
    steps = _steps(path)

    def missing(obj: Mapping[str, Any]) -> str:
        found: list[Any] = [obj]
        for step in steps:
            found = [item for value in found for item in step(value)]
        if not found:
            return f"{{{path}}} selects nothing"
        if wanted is None:
            return ""
        value = found[0]
        if isinstance(value, Mapping | list):
            return f"{{{path}}} is not a plain value"
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        return "" if shown == wanted else f"{{{path}}} is {shown}, not {wanted}"

    return WaitFor(text, missing)


def _steps(path: str) -> list[Step]:
    steps: list[Step] = []
    rest = path.removeprefix("$")
    while rest:
        match = _TOKEN.match(rest)
        if match is None:
            raise ValueError(f"cannot read the path {{{path}}} from {rest!r} on")
        steps.append(_step(match))
        rest = rest[match.end() :]
    if not steps:
        raise ValueError("the path is empty")
    return steps


def _step(match: re.Match[str]) -> Step:
    if match["name"] is not None:
        return _field(re.sub(r"\\(.)", r"\1", match["name"]))
    if match["quoted"] is not None:
        return _field(match["quoted"][1:-1])
    if match["all"]:
        return lambda value: list(value.values()) if isinstance(value, Mapping) else _list(value)
    if match["index"] is not None:
        index = int(match["index"])
        return lambda value: _list(value)[index : index + 1 or None]
    steps, wanted, equal = _steps(match["filter"].strip()), match["wanted"], match["operator"] == "=="

    def keep(value: Any) -> list[Any]:
        kept = []
        for item in _list(value):
            found = [item]
            for step in steps:
                found = [inner for outer in found for inner in step(outer)]
            if found and (str(found[0]) == wanted) is equal:
                kept.append(item)
        return kept

    return keep


def _field(name: str) -> Step:
    return lambda value: [value[name]] if isinstance(value, Mapping) and name in value else []


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
