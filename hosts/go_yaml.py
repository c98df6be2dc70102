"""Writes plain data as YAML exactly as istioctl does, and reads it as istioctl does.

istioctl's files come from go-yaml v2 through `sigs.k8s.io/yaml`; PyYAML orders, quotes and wraps otherwise, and a file
that differs from istioctl's in its quotes only is still a difference to everyone who compares the two.
"""

import functools
import itertools
import re
from collections.abc import Mapping
from typing import Any

import yaml

from hosts.go_values import float_text, reads_as_string

_WIDTH = 80
_BREAKS = "\n\r\x85\u2028\u2029"
_ESCAPES = {
    "\0": "0", "\a": "a", "\b": "b", "\t": "t", "\n": "n", "\v": "v", "\f": "f", "\r": "r", "\x1b": "e",
    '"': '"', "\\": "\\", "\x85": "N", "\xa0": "_", "\u2028": "L", "\u2029": "P",
}  # fmt: skip


class _Loader(yaml.CSafeLoader):
    """PyYAML's safe loader with go-yaml's plain words: no base 60, exponents without a point, no timestamps, no `=`."""


_OTHERS = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp", "value")}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OTHERS]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(0[xX][0-9a-fA-F_]+|0b[01_]+|0o?[0-7_]*|[1-9][0-9_]*)$"),
    list("+-0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"([-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("+-.0123456789"),
)


def load(text: str) -> Any:
    """Return the data of a YAML document as go-yaml reads it.

    Raises:
        ValueError: The text is not YAML; the message says where.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from None


def dump(value: Mapping[str, Any]) -> str:
    """Return the block-style YAML of a mapping of mappings, lists, strings, numbers, booleans and None."""
    return "".join(f"{line}\n" for line in _mapping(value, 0)) if value else "{}\n"


def _mapping(value: Mapping[str, Any], indent: int) -> list[str]:
    lines: list[str] = []
    for key in sorted(value, key=functools.cmp_to_key(_compare_keys)):
        start = " " * indent + _scalar(key, 0, 0, is_key=True) + ":"
        lines += _value(start, value[key], indent, sequence_indent=indent)
    return lines


def _value(start: str, value: Any, indent: int, *, sequence_indent: int) -> list[str]:
    """Return the lines of one value, which begins after `start` on the first of them."""
    if isinstance(value, Mapping) and value:
        return [start, *_mapping(value, indent + 2)]
    if isinstance(value, list) and value:
        return [start, *_sequence(value, sequence_indent)]
    return f"{start} {_scalar(value, indent + 2, len(start) + 1)}".split("\n")


def _sequence(value: list[Any], indent: int) -> list[str]:
    lines: list[str] = []
    for item in value:
        if isinstance(item, Mapping | list) and item:
            inner = _mapping(item, indent + 2) if isinstance(item, Mapping) else _sequence(item, indent + 2)
            lines += [" " * indent + "- " + inner[0].lstrip(" "), *inner[1:]]
        else:
            lines += _value(" " * indent + "-", item, indent, sequence_indent=indent)
    return lines


def _scalar(value: Any, indent: int, column: int, *, is_key: bool = False) -> str:
    if isinstance(value, str):
        return _string(value, indent, column, is_key=is_key)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return float_text(value)
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "{}"
    return "[]" if isinstance(value, list) else str(value)


@functools.lru_cache(maxsize=8192)  # most of what one VM gets all others get as well
def _string(text: str, indent: int, column: int, *, is_key: bool) -> str:
    """Return the text in the style that go-yaml's emitter chooses for it."""
    padded = text.strip(" ") != text
    breaks = any(c in _BREAKS for c in text)
    special = any(not _printable(c) for c in text) or any(
        a == " " and b in _BREAKS for a, b in itertools.pairwise(text)
    )
    break_space = any(a in _BREAKS and b == " " for a, b in itertools.pairwise(text))
    if "\n" in text and not (special or text.endswith(" ") or is_key):
        return _literal(text, indent)
    if "\n" not in text and reads_as_string(text):
        if not (padded or breaks or special or _has_indicator(text)):
            return _wrapped(text, indent, column, is_key=is_key, quote="")
        if not (special or break_space or breaks):
            quoted = text.replace("'", "''")
            return f"'{_wrapped(quoted, indent, column + 1, is_key=is_key, quote=chr(39))}'"
    return f'"{_escaped(text, indent, column + 1, is_key=is_key)}"'


def _has_indicator(text: str) -> bool:
    """Tell whether the text, unquoted in block context, would read as something else than text."""
    if text.startswith(("---", "...")) or text[0] in "#,[]{}&*!|>'\"%@`":
        return True
    if text[0] in "?:-" and (len(text) == 1 or text[1] == " "):
        return True
    return ": " in text or text.endswith(":") or " #" in text


def _literal(text: str, indent: int) -> str:
    hint = "2" if text[0] in " \n" else ""
    chomp = "-" if text[-1] != "\n" else "+" if len(text) == 1 or text[-2] == "\n" else ""
    body = text[:-1] if text[-1] == "\n" else text
    lines = [" " * indent + line if line else "" for line in body.split("\n")]
    return "\n".join([f"|{hint}{chomp}", *lines])


def _wrapped(text: str, indent: int, column: int, *, is_key: bool, quote: str) -> str:
    """Break at a single space once the line is longer than the width, never at the ends of quoted text."""
    out: list[str] = []
    for i, character in enumerate(text):
        inner = not quote or 0 < i < len(text) - 1
        single = character == " " and text[i - 1 : i] != " " and text[i + 1 : i + 2] != " "
        if single and inner and column > _WIDTH and not is_key:
            out.append("\n" + " " * indent)
            column = indent
            continue
        out.append(character)
        column += 1
    return "".join(out)


def _escaped(text: str, indent: int, column: int, *, is_key: bool) -> str:
    out: list[str] = []
    for i, character in enumerate(text):
        lone = character == " " and text[i - 1 : i] != " " and 0 < i < len(text) - 1
        if lone and column > _WIDTH and not is_key:
            out.append("\n" + " " * indent + ("\\" if text[i + 1] == " " else ""))
            column = len(out[-1]) - 1
            continue
        piece = character
        if not _printable(character) or character in _BREAKS or character in '"\\':
            code = ord(character)
            kind, width = ("x", 2) if code <= 0xFF else ("u", 4) if code <= 0xFFFF else ("U", 8)
            piece = "\\" + _ESCAPES.get(character, f"{kind}{code:0{width}X}")
        out.append(piece)
        column += len(piece)
    return "".join(out)


def _printable(character: str) -> bool:
    code = ord(character)
    return (
        code == 0x0A
        or 0x20 <= code <= 0x7E
        or (0xA0 <= code <= 0xFFFD and not 0xD800 <= code <= 0xDFFF and code != 0xFEFF)
    )


def _compare_keys(a: str, b: str) -> int:
    """Order keys as go-yaml does: runs of digits by their number, letters after everything else."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x == y:
            continue
        if x.isalpha() and y.isalpha():
            return -1 if x < y else 1
        if x.isalpha() or y.isalpha():
            return -1 if y.isalpha() else 1
        before = a[:i]
        run = before[len(before.rstrip("0123456789")) :]
        lead = 1 if "0" in (x, y) and run.strip("0") else 0
        (a_number, a_end), (b_number, b_end) = _digits(a, i, lead), _digits(b, i, lead)
        if a_number != b_number:
            return -1 if a_number < b_number else 1
        if a_end != b_end:
            return -1 if a_end < b_end else 1
        return -1 if x < y else 1
    return len(a) - len(b)


def _digits(text: str, start: int, lead: int) -> tuple[int, int]:
    end = start
    while end < len(text) and text[end].isdecimal():
        end += 1
    return int(f"{lead}{text[start:end]}"), end
