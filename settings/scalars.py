"""Every checked kind of text or number in the configuration, named once.

They are strict: `8080` is no text and `"8080"` no number, so that what a stack file says is what is meant.
"""

import ipaddress
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from settings.problems import wrong

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"


def _text(pattern: str, what: str, right: str, longest: int = 253) -> AfterValidator:
    """Return a check that the whole text matches a pattern and is not too long."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if len(value) > longest:
            raise wrong(f"longer than {longest} characters", f"at most {longest} characters")
        if not compiled.fullmatch(value):
            raise wrong(what, right)
        return value

    return AfterValidator(check)


DnsLabel = Annotated[
    str, _text(_LABEL, "not an RFC 1123 label", "lower-case letters, digits and '-', at most 63 characters", 63)
]
"""A namespace, host name, cluster or revision: RFC 1123 label."""

ServiceName = Annotated[
    str,
    _text(
        r"[a-z]([-a-z0-9]*[a-z0-9])?",
        "not a Service name (RFC 1035 label)",
        "lower-case letters, digits and '-', a letter first, at most 63 characters",
        63,
    ),
]
"""A workload's name, which is also its Service's: RFC 1035 label."""

PortName = Annotated[
    str,
    _text(
        _LABEL,
        "not a port name (RFC 1123 label)",
        "lower-case letters, digits and '-', as in http or grpc-admin, at most 63 characters",
        63,
    ),
]
"""A port's name; what stands before the first '-' is its protocol for Istio."""

DnsName = Annotated[
    str,
    _text(
        rf"{_LABEL}(\.{_LABEL})*", "not a DNS name (RFC 1123 subdomain)", "lower-case letters, digits, '-' and '.'", 253
    ),
]
"""A service account or trust domain: RFC 1123 subdomain."""

Network = Annotated[
    str,
    _text(_QUALIFIED, "not a label value", "letters, digits, '-', '_' and '.', at most 63 characters", 63),
]
"""A network or mesh name, which ends as a Kubernetes label value."""


def _label_key(value: str) -> str:
    prefix, _, name = value.rpartition("/")
    good = bool(re.fullmatch(_QUALIFIED, name)) and len(name) <= 63
    if prefix or value.startswith("/"):
        good = good and len(prefix) <= 253 and bool(re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", prefix))
    if not good:
        raise wrong("not a label or annotation key", "a name as in app or app.kubernetes.io/name")
    return value


LabelKey = Annotated[str, AfterValidator(_label_key)]
"""The key of a Kubernetes label or annotation."""

LabelValue = Annotated[
    str,
    _text(rf"({_QUALIFIED})?", "not a label value", "letters, digits, '-', '_' and '.', at most 63 characters", 63),
]
"""The value of a Kubernetes label."""


def _port(value: int) -> int:
    if not 1 <= value <= 65535:
        raise wrong("not a port", "a number from 1 to 65535")
    return value


Port = Annotated[int, AfterValidator(_port)]
"""A TCP port."""


def _address(value: str) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise wrong("not an IP address", "an IPv4 address as in 10.77.0.21, not a name") from None
    if address.version == 6:
        raise wrong("IPv6 is not supported yet", "an IPv4 address")
    if address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local:
        raise wrong("no address that other machines reach", "the VM's own address in the network")
    if address.is_reserved:
        raise wrong("a reserved address", "the VM's own address in the network")
    return value


Address = Annotated[str, AfterValidator(_address)]
"""An IPv4 address that others reach."""


def _fqdn(value: str) -> str:
    if not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", value) or len(value) > 253:
        raise wrong("not a DNS name (RFC 1123 subdomain)", "lower-case letters, digits, '-' and '.'")
    if "." not in value:
        raise wrong(
            "a short host name: a ServiceEntry takes it literally, a VirtualService expands it, so the two never meet",
            f"the full name as in {value}.<namespace>.svc.cluster.local",
        )
    return value


HostName = Annotated[str, AfterValidator(_fqdn)]
"""A fully qualified host name."""

Version = Annotated[
    str, _text(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", "not a version", "major.minor.patch as in 1.31.1", 63)
]
"""An Istio version."""

Hub = Annotated[
    str, _text(r"[a-z0-9][a-z0-9._:/-]*[a-z0-9]", "not an image repository", "a name as in docker.io/istio")
]
"""An image repository."""

Tag = Annotated[str, _text(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", "not an image tag", "a tag as in 1.31.1", 128)]
"""An image tag."""

User = Annotated[
    str, _text(r"[A-Za-z_][A-Za-z0-9_.-]*", "not a login name", "letters, digits, '_', '-' and '.', as in root", 32)
]
"""A login name on a VM."""


UrlPath = Annotated[str, _text(r"/[!-~]*", "not a URL path", "a path as in /healthz", 2048)]
"""What a probe asks for."""


def _url(value: str) -> str:
    try:
        url = urlsplit(value)
        host, port = url.hostname, url.port
    except ValueError:
        host = port = url = None
    if (
        url is None
        or url.scheme not in {"http", "https"}
        or not host
        or not re.fullmatch(r"[!-~]+", value)
        or port == 0
    ):
        raise wrong("not an http or https address", "a URL as in https://host/istio-sidecar.deb")
    if url.username is not None or url.password is not None:
        raise PydanticCustomError(
            "wrong_secret",
            "{what}",
            {"what": "holds a login, which would stand in plans and states", "right": "a URL without one"},
        )
    if re.search(r"""['"\\`$]""", value):
        raise wrong("holds quotes or shell characters", "a URL with these percent-encoded")
    return value


Url = Annotated[str, AfterValidator(_url)]
"""Where a VM downloads a package."""

FilePath = Annotated[str, Field(min_length=1)]
"""A path, relative to the project's folder."""


def _proxy_config(values: dict[str, str]) -> dict[str, str]:
    text = values.get("proxy.istio.io/config")
    if text is not None:
        try:
            parsed: Any = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):
            parsed = None
        if not isinstance(parsed, dict):
            raise wrong("proxy.istio.io/config is no YAML mapping", "ProxyConfig fields as in 'concurrency: 2'")
    return values


ProxyConfigAnnotations = AfterValidator(_proxy_config)
"""Checks that an annotation `proxy.istio.io/config` can be read."""
