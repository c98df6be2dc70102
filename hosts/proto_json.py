"""Reads plain data as a protobuf message, and gives back what protobuf's JSON writes for it.

Only what Istio's ProxyConfig needs: zero values go, snake_case names become JSON names, durations are normalised. What
the message cannot hold is a ValueError that names the field, since istioctl refuses it too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 6 * 10**10,
    "h": 36 * 10**11,
}
_DURATION_PART = re.compile(r"(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h)")
_INTEGERS = {
    "int32": range(-(2**31), 2**31),
    "uint32": range(2**32),
    "int64": range(-(2**63), 2**63),
}
_ZERO: tuple[Any, ...] = ("", 0, False, [], {})

Kind = Any
"""A scalar's name ("string", "bool", "int32", "uint32", "int64", "double", "duration") or one of the classes below."""


@dataclass(frozen=True)
class Enum:
    """An enumeration: each name with its number; the name with 0 is the zero value."""

    numbers: Mapping[str, int]


@dataclass(frozen=True)
class Message:
    """A message: its fields by JSON name, and the groups of fields of which only one can be set."""

    fields: Mapping[str, Kind]
    one_of: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class ListOf:
    """A repeated field."""

    item: Kind


@dataclass(frozen=True)
class MapOf:
    """A map with string keys."""

    item: Kind


@dataclass(frozen=True)
class Wrapped:
    """A well-known wrapper around a scalar: written even where its value is zero."""

    item: str


def apply(message: Message, current: Mapping[str, Any], patch: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return the message with the patch's fields in place of its own; a field is replaced whole, never merged.

    Args:
        message: The shape of both.
        current: What the message holds, as this function returned it.
        patch: Fields by JSON or proto name. Unknown ones are ignored, as istioctl ignores them.
        path: Where the patch stands, for errors.
    """
    result = dict(current)
    for name, kind in message.fields.items():
        raw = patch.get(name)
        if raw is None:
            raw = patch.get(_proto_name(name))
        if raw is None:
            continue
        rivals = next((group for group in message.one_of if name in group), ())
        value = _read(kind, raw, f"{path}.{name}" if path else name)
        for rival in rivals:
            result.pop(rival, None)
        if rivals or isinstance(kind, Message | Wrapped) or kind == "duration" or not _is_zero(kind, value):
            result[name] = value
        else:
            result.pop(name, None)
    return result


def _proto_name(json_name: str) -> str:
    return re.sub(r"[A-Z]", lambda capital: "_" + capital.group().lower(), json_name)


def _is_zero(kind: Kind, value: Any) -> bool:
    if isinstance(kind, Enum):
        return bool(kind.numbers.get(value, value) == 0)
    return value in _ZERO


def _read(kind: Kind, raw: Any, path: str) -> Any:
    match kind:
        case Message():
            return apply(kind, {}, _expect(raw, Mapping, path), path)
        case ListOf():
            return [_read(kind.item, item, f"{path}[{i}]") for i, item in enumerate(_expect(raw, list, path))]
        case MapOf():
            items = _expect(raw, Mapping, path).items()
            return {str(key): _read(kind.item, item, f"{path}.{key}") for key, item in items}
        case Wrapped():
            return _read(kind.item, raw, path)
        case Enum():
            return _enum(kind, raw, path)
        case "string":
            return "" if raw is None else _expect(raw, str, path)
        case "bool":
            return _expect(raw, bool, path)
        case "duration":
            return _duration(_expect(raw, str, path), path)
        case "double":
            return float(_number(raw, path))
    number = _number(raw, path)
    if number != int(number) or int(number) not in _INTEGERS[kind]:
        raise ValueError(f"{path}: not an {kind} (got {raw!r})")
    return str(int(number)) if kind == "int64" else int(number)


def _expect(raw: Any, kind: type, path: str) -> Any:
    if isinstance(raw, kind):
        return raw
    name = {str: "string", bool: "boolean"}.get(kind, kind.__name__.lower())
    raise ValueError(f"{path}: not a {name} (got {raw!r})")


def _number(raw: Any, path: str) -> int | float:
    try:
        if isinstance(raw, int | float) and not isinstance(raw, bool):
            return raw
        return int(raw) if str(raw).lstrip("-").isdigit() else float(str(raw))
    except (TypeError, ValueError):
        raise ValueError(f"{path}: not a number (got {raw!r})") from None


def _enum(kind: Enum, raw: Any, path: str) -> str | int:
    if isinstance(raw, str):
        if raw not in kind.numbers:
            raise ValueError(f"{path}: not one of {', '.join(kind.numbers)} (got {raw!r})")
        return raw
    number = int(_number(raw, path))
    return next((name for name, value in kind.numbers.items() if value == number), number)


def _duration(text: str, path: str) -> str:
    """Return a Go duration such as `1m30s` in protobuf's form: seconds with 0, 3, 6 or 9 decimals."""
    unsigned = text[1:] if text[:1] in ("-", "+") else text
    parts = list(_DURATION_PART.finditer(unsigned))
    if unsigned != "0" and (not parts or "".join(part.group() for part in parts) != unsigned):
        raise ValueError(f"{path}: not a duration such as 1m30s (got {text!r})")
    total = 0
    for part in parts:
        whole, fraction, unit = part.groups()
        if not (whole or fraction):
            raise ValueError(f"{path}: not a duration such as 1m30s (got {text!r})")
        size = _NANOSECONDS[unit]
        total += int(whole or 0) * size + (int(fraction) * size // 10 ** len(fraction) if fraction else 0)
    decimals = f"{total % 10**9:09d}"
    while decimals.endswith("000"):
        decimals = decimals[:-3]
    sign = "-" if text.startswith("-") and total else ""
    return f"{sign}{total // 10**9}{'.' + decimals if decimals else ''}s"
