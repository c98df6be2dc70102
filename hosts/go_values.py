"""Go's text forms of single values, where they differ from Python's.

istioctl writes them into files that ours must equal, so each rule here is Go's or go-yaml's, not ours to choose.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

_WORDS = (
    frozenset(
        form
        for word in ("y", "yes", "true", "on", "n", "no", "false", "off", "null")
        for form in (word, word.capitalize(), word.upper())
    )
    | {"~", ".nan", ".NaN", ".NAN"}
    | {sign + inf for sign in ("", "+", "-") for inf in (".inf", ".Inf", ".INF")}
)
_SAFE_IN_SHELL = re.compile(r"[w@%+=:,./-]+")
_INTEGER = re.compile(r"([-+]?)(?:0x([0-9a-f]+)|0b([01]+)|0o?([0-7]+)|([1-9][0-9]*|0))", re.IGNORECASE)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})"
    r"(?:[Tt]\d{1,2}:\d{1,2}:\d{1,2}([.,]\d+)?(Z|[-+]\d\d:\d\d)| +\d{1,2}:\d{1,2}:\d{1,2}([.,]\d+)?)?"
)


def json_text(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    """Return compact JSON as `encoding/json` writes it, in the order given; it escapes `<`, `>` and `&`."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def shell_quote(value: str) -> str:
    """Return the value as istioctl quotes it in cluster.env.

    Its pattern of safe characters names the letter `w` and the backslash where all word characters were meant, so
    almost everything is quoted: https://github.com/istio/istio/blob/master/pkg/util/shellescape/shellescape.go
    The backslash is quoted here: left as it is, it takes the next line's variable away.
    """
    if _SAFE_IN_SHELL.fullmatch(value):
        return value
    return "'" + value.replace("'", "'\"'\"'") + "'"


def float_text(value: float) -> str:
    """Return `strconv.FormatFloat(value, 'g', -1, 64)`; a whole number reads as an integer, as JSON has made it one."""
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    number = Decimal(repr(value))
    if -4 <= number.adjusted() < 6:
        return format(number, "f")
    digits = "".join(str(d) for d in number.normalize().as_tuple().digits)
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{'-' if value < 0 else ''}{mantissa}e{number.adjusted():+03d}"


def reads_as_string(text: str) -> bool:
    """Tell whether go-yaml reads the unquoted text as a string, and may therefore write it unquoted."""
    if text == "" or text in _WORDS:
        return False
    if text[0] not in "+-.0123456789":
        return True
    return not (_is_timestamp(text) or _is_number(text) or _BASE_60.fullmatch(text))


def _is_number(text: str) -> bool:
    plain = text if text[0] == "." else text.replace("_", "")
    integer = _INTEGER.fullmatch(plain)
    if integer and text[0] != ".":
        sign, *digits = integer.groups()
        size = next(int(d, base) for d, base in zip(digits, (16, 2, 8, 10), strict=True) if d is not None)
        if size <= (2**63 if sign == "-" else 2**63 - 1 if sign else 2**64 - 1):
            return True
    if not _FLOAT.fullmatch(plain):
        return False
    return abs(float(plain)) != float("inf")


def _is_timestamp(text: str) -> bool:
    found = _TIMESTAMP.fullmatch(text)
    if not found:
        return False
    try:
        date(*(int(part) for part in found.groups()[:3]))
    except ValueError:
        return False
    return True
