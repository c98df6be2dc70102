"""Checked kinds of text and numbers that speak of the mesh: virtual addresses, who sees a service, who calls."""

import ipaddress
import re
from typing import Annotated, Any

from settings.problems import Refused
from settings.scalars import _LABEL, _NAME, Kind, _address, _port, _text, mesh_name

ALLOCATED = ipaddress.IPv4Network("240.240.0.0/16")
"""Where Istio allocates addresses for ServiceEntries that have none (PILOT_IP_AUTOALLOCATE_IPV4_PREFIX)."""


def _service_address(value: str) -> None:
    try:
        network = ipaddress.IPv4Network(value, strict=False)
    except ValueError:
        network = None
    if network is None or not re.fullmatch(r"[0-9.]+(/[0-9]+)?", value):
        raise Refused("neither an IPv4 address nor a range", "as in 10.100.0.1 or 10.100.0.0/24")
    if "/" in value and str(network) != value:
        raise Refused("not the first address of its range", f"{network}")
    if any(network.overlaps(own) for own in _NO_SERVICE):
        raise Refused("not an address that a client calls", "as in 10.100.0.1 or 10.100.0.0/24")
    if network.overlaps(ALLOCATED):
        raise Refused(f"in {ALLOCATED}, from which Istio allocates addresses itself", "another one, or leave it out")


_NO_SERVICE = tuple(map(ipaddress.IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32")))

ServiceAddress = Annotated[str, Kind("an IPv4 address or range", _service_address)]
"""A virtual address of a ServiceEntry."""


def _machine(value: str) -> None:
    if re.fullmatch(r"[0-9.:]+", value):
        _address(value)
    else:
        mesh_name(value)


Machine = Annotated[str, Kind("an IPv4 address or host name", _machine)]
"""An endpoint of a ServiceEntry."""


def _visibility(value: str) -> None:
    if value not in {".", "*", "~"} and not (re.fullmatch(_LABEL, value) and len(value) <= 63):
        raise Refused("not a namespace", "a namespace's name, '.', '*' or '~'")


Visibility = Annotated[str, Kind("a namespace, `.`, `*` or `~`", _visibility)]
"""Who sees a ServiceEntry."""

Locality = Annotated[
    str, _text(r"[^\s/]+(/[^\s/]+){0,2}", "a locality", "region, region/zone or region/zone/subzone", 2048)
]
"""Where an endpoint is."""

SubjectName = Annotated[str, _text(r"[!-~]+", "a name of a certificate", "as in spiffe://td/ns/shop/sa/reviews", 1024)]
"""A subject alternative name."""


Injection = Annotated[
    str,
    _text(
        rf"byPod|{_LABEL}", "a kind of injection or a revision", "enabled, disabled, byPod, or a revision or tag", 63
    ),
]
"""Which pods of a namespace get a sidecar."""

_CALLER = re.compile(rf"\*|[a-z]([-a-z0-9]*[a-z0-9])?|{_LABEL}/(\*|{_NAME})|spiffe://{_NAME}/ns/{_LABEL}/sa/{_NAME}")


def _caller(value: str) -> None:
    if len(value) > 320 or not _CALLER.fullmatch(value):
        raise Refused(
            "not a caller",
            "a workload's name, <namespace>/<service account>, <namespace>/*, "
            "spiffe://<trust domain>/ns/<namespace>/sa/<service account>, or '*'",
        )


Caller = Annotated[str, Kind("a caller", _caller)]
"""Whose identity a rule lets in."""

HttpMethod = Annotated[
    str, _text(r"[A-Z]+(-[A-Z]+)*", "an HTTP method", "capital letters, as in GET; methods are case-sensitive", 32)
]
"""An HTTP method."""


def _path_pattern(value: str) -> None:
    if not re.fullmatch(r"\*|(/|\*/?)?[!-~]*", value) or not value or len(value) > 2048:
        raise Refused("not a path", "a path, as in /api, /api/* or */info")
    if "{" in value or "}" in value:
        raise Refused("holds braces: templates are not supported", "a path, as in /api, /api/* or */info")
    if "*" in value[1:-1] or not value.startswith(("/", "*")) or (len(value) > 1 and value[0] == value[-1] == "*"):
        raise Refused(
            "matches nothing: a path begins with '/', and '*' stands at one end only", "as in /api/* or */info"
        )


PathPattern = Annotated[str, Kind("a path, `/prefix*` or `*suffix`", _path_pattern)]
"""Paths of requests."""


def _port_or_name(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Refused("neither a port nor a port's name", "a number from 1 to 65535, or one of the workload's ports")
    if isinstance(value, int):
        _port(value)
    elif not re.fullmatch(_LABEL, value) or len(value) > 62:
        raise Refused("neither a port nor a port's name", "a number from 1 to 65535, or one of the workload's ports")


PortOrName = Annotated[Any, Kind("a port or its name", _port_or_name)]
"""A port of an application."""
