"""Checked kinds of text and numbers that only traffic rules have."""

import re
import warnings
from decimal import Decimal
from http import HTTPStatus
from math import prod
from typing import Annotated, Literal

from settings.problems import Refused
from settings.scalars import Kind, _label_key

_UNITS = {"ms": Decimal(1), "s": Decimal(1000), "m": Decimal(60_000), "h": Decimal(3_600_000)}
_LONGEST = 24 * _UNITS["h"]


def milliseconds(duration: str) -> Decimal:
    """Return how long a duration is; not a whole number where it is too precise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h)", duration, re.ASCII)
    return Decimal(match[1]) * _UNITS[match[2]] if match else Decimal(0)


def _duration(value: str) -> None:
    length = milliseconds(value) if len(value) <= 16 else Decimal(0)
    if not 1 <= length <= _LONGEST or length % 1:
        raise Refused("not a duration", "1ms to 24h, whole milliseconds, as in 250ms or 2s")


Duration = Annotated[str, Kind("a duration, as in `2s` or `250ms`", _duration)]
"""A time, at least a millisecond, which is the least that istiod takes."""


def _share(value: int) -> None:
    if not 0 <= value <= 100:
        raise Refused("not from 0 to 100", "a share of 100")


Share = Annotated[int, Kind("a number from 0 to 100", _share)]
"""A share in per cent, or a weight of 100."""


def _part(value: int) -> None:
    if not 1 <= value <= 100:
        raise Refused("not from 1 to 100", "a share of 100")


Part = Annotated[int, Kind("a number from 1 to 100", _part)]
"""A share in per cent that is not none."""

# `supportedRetryOnPolicies` in Istio's pkg/config/validation/validation.go.
_RETRY_ON = (
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
)
_STATUSES = {str(status.value) for status in HTTPStatus}


def _retry_on(value: str) -> None:
    unknown = [part for part in value.split(",") if part not in _RETRY_ON and part not in _STATUSES]
    if unknown:
        right = f"conditions and HTTP statuses with ',' and no space between: {', '.join(_RETRY_ON)}"
        raise Refused(f"holds '{unknown[0]}', on which nothing can be retried", right)


RetryOn = Annotated[str, Kind("conditions, as in `5xx,reset`", _retry_on)]
"""What a try must have met to be retried."""


def _status(value: int) -> None:
    if not 200 <= value <= 599:
        raise Refused("not an HTTP status that ends a request", "a number from 200 to 599")


Status = Annotated[int, Kind("an HTTP status", _status)]

# `SupportedGRPCStatus` in Istio's pkg/util/grpc/codes.go.
GrpcStatus = Literal[
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
]

_PSEUDO = (":method", ":authority", ":scheme", ":path")


def _header(value: str) -> None:
    if value in _PSEUDO or value == "":
        raise Refused("not a header that is matched here", "a header's name; path and method have keys of their own")
    if not re.fullmatch(r"[a-z0-9_-]+", value):
        raise Refused("not a header's name in lower case", "letters in lower case, digits, '-' and '_', as in x-user")


HeaderName = Annotated[str, Kind("a header's name", _header)]
"""A header in the form in which Envoy compares it."""


def _matched(value: str) -> None:
    if not value or len(value) > 1024 or not value.isprintable():
        raise Refused("not a text that can be matched", "1 to 1024 characters that can be printed")


Matched = Annotated[str, Kind("text", _matched)]
"""A text that a header or path is compared with."""


def _matched_path(value: str) -> None:
    if not re.fullmatch(r"/[!-~]*", value) or len(value) > 1024 or "?" in value or "#" in value:
        raise Refused("not a path", "what stands in a URL between host and '?', as in /orders")


MatchedPath = Annotated[str, Kind("a path", _matched_path)]


def _present(value: bool) -> None:
    if not value:
        raise Refused("not true", "true, or leave the header out")


Present = Annotated[bool, Kind("true", _present)]

_ESCAPE = r"""\\[dDsSwWBAtnrfv\\.+*?()|\[\]{}^$/\-"'#&~@!%,:;<>=_`]"""
_FOREIGN = re.compile(rf"\\(?!.)|(?!{_ESCAPE})\\.|\(\?(?!:|P<[A-Za-z_][A-Za-z0-9_]*>)|[*+?}}]\+|\[:|\{{,", re.DOTALL)


def _regex(value: str) -> None:
    right = "a regular expression of RE2, without lookaround, references and flags, of at most 1024 bytes"
    if not value or len(value.encode()) > 1024 or not value.isprintable():
        raise Refused("empty, too long, or not printable", right)
    if _FOREIGN.search(re.sub(r"\\\\", "", value)):
        raise Refused("holds what RE2 does not know", right)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            re.compile(value)
    except (re.error, OverflowError, RecursionError):
        raise Refused("not a regular expression", right) from None
    if prod(max(map(int, re.findall(r"\d+", part))) or 1 for part in re.findall(r"\{(\d+(?:,\d*)?)\}", value)) > 1000:
        raise Refused("repeats more than 1000 times", right)


Regex = Annotated[str, Kind("a regular expression", _regex)]
"""A regular expression that Go's RE2, with which istiod checks it, takes too."""

_PLACE = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"


def _locality(value: str) -> None:
    if len(value) > 253 or not re.fullmatch(rf"\*|{_PLACE}(/{_PLACE}){{0,2}}|{_PLACE}(/{_PLACE})?/\*", value):
        raise Refused(
            "not a place", "region, region/zone or region/zone/subzone, or one with '*' at its end, as in eu/*"
        )


LocalityRange = Annotated[str, Kind("a place", _locality)]
"""A region, zone or subzone, or all within one."""


def _region(value: str) -> None:
    if len(value) > 253 or not re.fullmatch(_PLACE, value):
        raise Refused("not a region", "a region's name, without zones and '*'")


Region = Annotated[str, Kind("a region", _region)]


def _priority(value: str) -> None:
    key, _, label = value.partition("=")
    _label_key(key)
    if not re.fullmatch(rf"({_PLACE})?", label) or len(label) > 63:
        raise Refused("not a label", "a label's key, or key=value, as in version=v1")


Priority = Annotated[str, Kind("a label", _priority)]
"""A label that decides which endpoints come first."""
