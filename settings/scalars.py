"""Every checked kind of text or number in the configuration, named once.

They are strict: `8080` is no text and `"8080"` no number, so that what a stack file says is what is meant.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from hosts import go_yaml
from settings.problems import Refused, show, wrong

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"


@dataclass(frozen=True)
class Kind:
    """Marks a type with what it is called and with its check, which raises `Refused`."""

    name: str
    """What the reference and messages call it, as in `an IPv4 address`."""
    check: Callable[[Any], None]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Run the check after pydantic's own."""
        return core_schema.no_info_after_validator_function(self._validate, handler(source))

    def _validate(self, value: Any) -> Any:
        """Return the value, or raise what pydantic collects."""
        try:
            self.check(value)
        except Refused as refused:
            raise wrong(refused.what, refused.right) from None
        return value


def _text(pattern: str, name: str, right: str, longest: int) -> Kind:
    """Return a kind of text that matches a pattern and is not too long."""
    compiled = re.compile(pattern)

    def check(value: str) -> None:
        if len(value) > longest:
            raise Refused(f"longer than {longest} characters", f"at most {longest} characters")
        if not compiled.fullmatch(value):
            raise Refused(f"not {name}", right)

    return Kind(name, check)


def only(supported: str | bool) -> Kind:
    """Return a kind of which this version supports one value so far."""

    def check(value: str | bool) -> None:
        if value != supported:
            raise Refused("not supported yet", "give " + show(supported).strip('"'))

    return Kind("the one value that is supported yet", check)


_LOWER = "lower-case letters, digits and '-'"
_ANY = "letters, digits, '-', '_' and '.'"

DnsLabel = Annotated[str, _text(_LABEL, "an RFC 1123 label", f"{_LOWER}, at most 63 characters", 63)]
"""A namespace, host name, cluster or revision."""

Revision = Annotated[
    str, _text(rf"({_LABEL})?", "a revision (RFC 1123 label)", f"{_LOWER}, at most 48 characters, or empty", 48)
]
"""A revision of the control plane; empty is the default one. It is part of names that are labels of a domain."""

NamedRevision = Annotated[str, _text(_LABEL, "a revision (RFC 1123 label)", f"{_LOWER}, at most 48 characters", 48)]
"""A revision of the control plane that has a name."""

HeaderField = Annotated[
    str, _text(r"[-_A-Za-z0-9]+", "a header's name", "letters, digits, '-' and '_', as in X-Probe", 256)
]
"""A header that a probe sends; Istio's CRD takes no other characters."""

ServiceName = Annotated[
    str, _text(r"[a-z]([-a-z0-9]*[a-z0-9])?", "a Service name (RFC 1035 label)", f"{_LOWER}, a letter first", 63)
]
"""A workload's name, which is also its Service's."""

PortName = Annotated[
    str, _text(_LABEL, "a port name (RFC 1123 label)", f"{_LOWER}, as in http or grpc-admin, at most 62 characters", 62)
]
"""A port's name; what stands before the first '-' is its protocol for Istio, whose CRDs take at most 62 characters."""

DnsName = Annotated[str, _text(_NAME, "a DNS name (RFC 1123 subdomain)", f"{_LOWER}, with '.' between labels", 253)]
"""A service account or trust domain."""

LabelValue = Annotated[str, _text(rf"({_QUALIFIED})?", "a label value", f"{_ANY}, at most 63 characters", 63)]
"""The value of a Kubernetes label."""

Name = Annotated[str, _text(_QUALIFIED, "a name that fits a label", f"{_ANY}, at most 63 characters", 63)]
"""A network or mesh, whose name ends as a label's value."""

Version = Annotated[str, _text(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", "a version", "major.minor.patch, as in 1.31.1", 63)]
"""An Istio version."""

Hub = Annotated[
    str, _text(r"[a-z0-9][a-z0-9._:/-]*[a-z0-9]", "an image repository", "a name, as in docker.io/istio", 253)
]
"""An image repository."""

Tag = Annotated[str, _text(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", "an image tag", "a tag, as in 1.31.1", 128)]
"""An image tag."""

User = Annotated[str, _text(r"[A-Za-z_][A-Za-z0-9_.-]*", "a login name", f"{_ANY}, as in root", 32)]
"""A login on a VM."""

UrlPath = Annotated[str, _text(r"/[!-~]*", "a URL path", "a path, as in /healthz", 2048)]
"""What a probe asks for."""

FilePath = Annotated[str, _text(r"[^\0\n]+", "a path", "a path relative to the project", 4096)]
"""A path, relative to the project's folder."""

Place = Annotated[
    str, _text(r"[^\0\n]+", "a URL or path", "a repository's URL, or a path relative to the project", 4096)
]
"""Where charts are."""

Digest = Annotated[str, _text(r"[^\0\n]+", "a digest or path", "64 hex digits, or the path of a checksum file", 4096)]
"""A SHA-256, or the file that holds it."""


def _label_key(value: str) -> None:
    prefix, slash, name = value.rpartition("/")
    prefix_fits = not slash or (len(prefix) <= 253 and re.fullmatch(_NAME, prefix))
    if not (prefix_fits and len(name) <= 63 and re.fullmatch(_QUALIFIED, name)):
        raise Refused("not a label key", "a name, as in app or app.kubernetes.io/name")


LabelKey = Annotated[str, Kind("a label key", _label_key)]
"""The key of a Kubernetes label or annotation."""


def _port(value: int) -> None:
    if not 1 <= value <= 65535:
        raise Refused("not a port", "a number from 1 to 65535")


Port = Annotated[int, Kind("a port", _port)]
"""A TCP port."""


def _at_least(least: int) -> Callable[[int], None]:
    def check(value: int) -> None:
        if not least <= value < 2**31:
            raise Refused(f"not a number from {least}", f"a whole number, {least} or more")

    return check


def _token_minutes(value: int) -> None:
    if not 10 <= value <= 60:
        raise Refused("not from 10 to 60", "10, which is the least that Kubernetes takes, to 60")


TokenMinutes = Annotated[int, Kind("a number from 10 to 60", _token_minutes)]
"""Life of a token: TokenRequest refuses less than 600 s."""


def _confirm_seconds(value: int) -> None:
    if not 20 <= value <= 600:
        raise Refused("not from 20 to 600", "20, within which a sidecar can be ready, to 600")


ConfirmSeconds = Annotated[int, Kind("a number from 20 to 600", _confirm_seconds)]

Seconds = Annotated[int, Kind("a number from 0", _at_least(0))]
Count = Annotated[int, Kind("a number from 1", _at_least(1))]


def _address(value: str) -> None:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise Refused("not an IP address", "an IPv4 address, as in 10.77.0.21; names are not resolved") from None
    if address.version == 6:
        raise Refused("IPv6 is not supported yet", "an IPv4 address")
    if address.is_unspecified or address.is_loopback or address.is_multicast or address.is_reserved:
        raise Refused("not an address that other machines reach", "the machine's own address in its network")
    if address.is_link_local:
        raise Refused("a link-local address", "the machine's own address in its network")


Address = Annotated[str, Kind("an IPv4 address", _address)]
"""An IPv4 address that others reach."""


def _endpoint(value: str) -> None:
    if re.fullmatch(r"[0-9.:]+", value):
        _address(value)
    elif not re.fullmatch(_NAME, value) or len(value) > 253:
        raise Refused("not an address or host name", "an IPv4 address or a DNS name, as in bastion.example.com")


Endpoint = Annotated[str, Kind("an IPv4 address or host name", _endpoint)]
"""A machine that the deployer reaches by address or name."""


def _agent(value: Any) -> None:
    if value is True:
        return
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value or "\n" in value:
        right = "true for the one that SSH_AUTH_SOCK names, the absolute path of its socket, or leave it out"
        raise Refused("not an ssh agent", right)


Agent = Annotated[Any, Kind("`true` or an absolute path", _agent)]
"""An ssh agent: the ambient one, or the one behind a socket."""


def _network(value: str) -> None:
    try:
        network = ipaddress.IPv4Network(value, strict=False)
    except ValueError:
        network = None
    if network is None or not re.fullmatch(r"[0-9.]+/[0-9]+", value):
        raise Refused("not an IPv4 range", "an address and a prefix length, as in 10.96.0.0/12")
    if not network.prefixlen:
        raise Refused("the default route, over which a VM is reached", "the ranges of the cluster's services and pods")
    if str(network) != value:
        raise Refused("not the first address of its range", f"{network}")
    if any(network.overlaps(own) for own in _UNROUTED):
        raise Refused("holds addresses that no router takes", "the ranges of the cluster's services and pods")


_UNROUTED = tuple(map(ipaddress.IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")))

Network = Annotated[str, Kind("an IPv4 range", _network)]
"""A range of IPv4 addresses that a route leads to."""


def mesh_name(value: str) -> None:
    """Refuse what istiod's `ValidateFQDN` refuses of a name (`pkg/config/validation/agent`)."""
    if not re.fullmatch(_NAME, value) or len(value) > 253:
        raise Refused("not a DNS name (RFC 1123 subdomain)", f"{_LOWER}, with '.' between labels")
    if max(map(len, value.split("."))) > 63:
        raise Refused("not a DNS name: a label is longer than 63 characters", "labels of at most 63 characters")
    if value.split(".")[-1].isdigit():
        what = "not a name: its last label is a number, which istiod refuses"
        raise Refused(what, "a name, as in reviews.mesh.internal")


def _host_name(value: str) -> None:
    mesh_name(value)
    if "." not in value:
        raise Refused(
            "a short host name: a ServiceEntry takes it literally, a VirtualService expands it, so the two never meet",
            f"the full name, as in {value}.<namespace>.svc.cluster.local or {value}.mesh.internal",
        )


HostName = Annotated[str, Kind("a full host name", _host_name)]
"""A fully qualified host name."""


def _ingress_host_name(value: str) -> None:
    name = value.removeprefix("*.")
    if not re.fullmatch(_NAME, name) or "." not in name or len(value) > 240:
        raise Refused("not a full host name", "as in shop.example.com or *.example.com, at most 240 characters")
    mesh_name(name)


IngressHostName = Annotated[str, Kind("a full host name, or `*.` and one", _ingress_host_name)]
"""A host that a gateway answers for; its name is part of an object's."""


def _url(value: str) -> None:
    try:
        url = urlsplit(value)
        good = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        good = False
    if not good or not re.fullmatch(r"[!-~]+", value):
        raise Refused("not an http or https URL", "a URL, as in https://host/istio-sidecar.deb")
    if url.username is not None or url.password is not None:
        raise Refused("holds a login, which would stand in plans and states", "a URL without one")
    if re.search(r"""['"\\`$]""", value):
        raise Refused("holds quotes or shell characters", "a URL with these percent-encoded")


Url = Annotated[str, Kind("an http or https URL", _url)]
"""Where a VM downloads a package."""


def _annotations(values: dict[str, str]) -> None:
    try:
        config = go_yaml.load(values.get("proxy.istio.io/config", "{}"))
    except ValueError:
        config = None
    if not isinstance(config, dict):
        raise Refused("proxy.istio.io/config is not a YAML mapping", "fields of ProxyConfig, as in 'concurrency: 2'")


ReadableProxyConfig = Kind("annotations", _annotations)
"""Checks that an annotation `proxy.istio.io/config` can be read."""


def _unavailable(value: Any) -> None:
    share = isinstance(value, str) and re.fullmatch(r"([1-9][0-9]?|100)%", value)
    number = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not (share or number):
        raise Refused("neither a number from 1 nor a share", "as in 1 or 25%")


Unavailable = Annotated[Any, Kind("a number from 1, or a share as in `25%`", _unavailable)]
"""How many VMs of a workload may be away at once."""
