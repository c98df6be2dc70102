"""Public ssh host keys: from a stack file or a known_hosts file to the one key that a connection is pinned to.

The provider's ssh client pins exactly one key, and with an RSA one it cannot negotiate with today's servers.
"""

import base64
import binascii
import fnmatch
import hashlib
import hmac
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from settings.problems import Refused

USABLE = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
"""Types of key that a connection can be pinned to, the best first."""

_LENGTHS = {"ssh-ed25519": 51, "ecdsa-sha2-nistp256": 104, "ecdsa-sha2-nistp384": 136, "ecdsa-sha2-nistp521": 172}
"""Bytes of a whole public key by type."""


@dataclass(frozen=True, kw_only=True)
class KnownHost:
    """A line of a known_hosts file."""

    marker: str
    """`@revoked`, `@cert-authority` or nothing."""
    patterns: str
    key: str
    """`<type> <base64>`."""

    def names(self, host: str) -> bool:
        """Return whether the line speaks of a host, given as `address` or `[address]:port`."""
        if self.patterns.startswith("|1|"):
            return _hashed(self.patterns, host)
        found = False
        for pattern in self.patterns.lower().split(","):
            negated = pattern.startswith("!")
            if _glob(host, pattern.removeprefix("!")):
                if negated:
                    return False
                found = True
        return found


def usable(text: str) -> str:
    """Return a public host key as `<type> <base64>` if a connection can be pinned to it, else raise `Refused`."""
    words = text.split()
    if len(words) < 2:
        raise Refused("not an ssh public key", "a key as in ssh-ed25519 AAAA...")
    kind, encoded = words[0], words[1]
    if kind == "ssh-rsa" or kind.startswith("rsa-sha2-"):
        raise Refused(
            "an RSA key, with which the provider's ssh client cannot negotiate",
            "the VM's Ed25519 or ECDSA key (/etc/ssh/ssh_host_ed25519_key.pub)",
        )
    if kind not in USABLE:
        raise Refused("not a usable kind of ssh host key", f"one of {', '.join(USABLE)}")
    try:
        blob = base64.b64decode(encoded, validate=True)
        (length,) = struct.unpack_from(">I", blob)
    except (binascii.Error, ValueError, struct.error):
        raise Refused("a damaged ssh public key", "the whole line of the VM's public key file") from None
    if blob[4 : 4 + length] != kind.encode() or len(blob) != _LENGTHS[kind]:
        raise Refused("a damaged ssh public key", "the whole line of the VM's public key file")
    return f"{kind} {encoded}"


def read_known_hosts(text: str) -> list[KnownHost]:
    """Return the lines of a known_hosts file; what OpenSSH would skip is skipped."""
    return list(_lines(text))


def _lines(text: str) -> Iterator[KnownHost]:
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        marker = words.pop(0) if words[0].startswith("@") else ""
        if len(words) >= 3:
            yield KnownHost(marker=marker, patterns=words[0], key=f"{words[1]} {words[2]}")


def find(entries: list[KnownHost], address: str, port: int) -> str:
    """Return the best key that a known_hosts file has for a host, else raise `Refused`."""
    host = address if port == 22 else f"[{address}]:{port}"
    named = [entry for entry in entries if entry.names(host)]
    revoked = {entry.key for entry in named if entry.marker == "@revoked"}
    keys = [entry.key for entry in named if not entry.marker and entry.key not in revoked]
    if not keys:
        what = "revokes the only key of" if revoked else "has no key of"
        raise Refused(f"{what} {host}", f"add it (ssh-keyscan -p {port} {address}, then compare) or give hostKey")
    for kind in USABLE:
        for key in keys:
            if key.split()[0] == kind:
                return usable(key)
    return usable(keys[0])


def _hashed(pattern: str, host: str) -> bool:
    """Return whether a hashed name (`|1|salt|hash`) is a host's."""
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in pattern.split("|")[2:4])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, host.encode(), hashlib.sha1).digest(), digest)


def _glob(host: str, pattern: str) -> bool:
    """Return whether a host matches a pattern with `*` and `?`, in which brackets mean themselves."""
    return fnmatch.fnmatchcase(host, pattern.replace("[", "[[]"))
