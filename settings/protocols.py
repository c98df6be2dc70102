"""What a port's name says of its protocol, as Istio reads it (`ConvertProtocol` in `pkg/config/kube/conversion.go`)."""

HTTP = frozenset({"HTTP", "HTTP2", "GRPC", "GRPC-WEB"})
"""Protocols with methods and paths."""

_KNOWN = HTTP | {"TCP", "UDP", "HTTPS", "TLS", "MONGO", "REDIS", "MYSQL"}


def protocol_of(port_name: str) -> str:
    """Return the protocol that a port's name says; empty where sidecars are to find out themselves."""
    name = port_name.upper()
    if name.startswith("GRPC-WEB"):
        return "GRPC-WEB"
    first = name.partition("-")[0]
    return first if first in _KNOWN else ""
