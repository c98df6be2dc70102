"""Checks of the authority that istiod is to sign with: that it is one, chains to its root, and has not run out.

istiod would refuse most of these when it starts, and with it every pod and VM: see `Verify` in Istio's
`security/pkg/pki/util/keycertbundle.go`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from pydantic import SecretStr

from settings.problems import Refused

NEAR_ITS_END = timedelta(days=30)
"""Before that time of a certificate's end, a run warns."""
_WEAK = (hashes.MD5, hashes.SHA1)


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A checked authority; texts are PEM, with one newline at the end."""

    certificate: str
    chain: str
    root: str
    """One root certificate, or several while they are exchanged."""
    anchor: str
    """The one that the authority is under."""
    key: SecretStr = field(default_factory=lambda: SecretStr(""))
    """The private key; empty where the Secret is somebody else's."""
    ends: datetime
    """When the first certificate between the authority and its root runs out."""

    def warning(self, now: datetime) -> str:
        """Return what to tell of an authority that runs out soon; empty of any other."""
        if self.ends - now > NEAR_ITS_END:
            return ""
        return (
            f"istio.caSecret: runs out on {self.ends:%Y-%m-%d}, in {(self.ends - now).days} days, and with it every "
            "certificate of the mesh: replace it before (docs/control-plane.md)"
        )


def certificates(text: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM text; raises `Refused` where there is none, or a damaged one."""
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise Refused("holds no certificate that can be read", "PEM certificates (BEGIN CERTIFICATE)") from None


def signs(certificate: x509.Certificate, now: datetime) -> None:
    """Check that a certificate may sign others, today."""
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    if not is_ca:
        raise Refused(f"{_name(certificate)} is no CA (basicConstraints)", "the certificate of an authority (CA:TRUE)")
    try:
        may_sign = certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        may_sign = True
    if not may_sign:
        raise Refused(f"{_name(certificate)} may not sign certificates (keyUsage)", "one with keyCertSign")
    if certificate.not_valid_after_utc <= now:
        raise Refused(f"{_name(certificate)} expired on {certificate.not_valid_after_utc:%Y-%m-%d}", "a valid one")
    if certificate.not_valid_before_utc > now:
        what = f"{_name(certificate)} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
        raise Refused(what, "a valid one, or the right time on this machine")


def key_of(certificate: x509.Certificate, key: str) -> str:
    """Return a certificate's private key as istiod reads it: it takes the first part of a PEM text for the key."""
    try:
        private = load_pem_private_key(key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        right = "an RSA or ECDSA key in PEM (PKCS#1, SEC 1 or PKCS#8)"
        raise Refused("is no private key that istiod reads", right) from None
    if not isinstance(private, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise Refused("is neither an RSA nor an ECDSA key", "a key that istiod can sign with")
    if _public(private.public_key()) != _public(certificate.public_key()):
        raise Refused("is not the key of the certificate", "the private key that belongs to it")
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def path_to_root(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], now: datetime
) -> list[x509.Certificate]:
    """Return the way from the authority, which the chain begins with, to one of the roots; raises `Refused`."""
    way = [chain[0]]
    for upper in chain[1:]:
        if way[-1] in roots:
            break
        _signed(way[-1], upper)
        way.append(upper)
    if way[-1] not in roots:
        root = next((root for root in roots if _is_signed(way[-1], root)), None)
        if root is None:
            raise Refused(
                f"{_name(way[-1])} is not signed by {' or '.join(map(_name, roots))}",
                "the root that signed it, or the certificates between them in istio.caSecret.chain",
            )
        way.append(root)
    for below, certificate in enumerate(way):
        signs(certificate, now)
        _strong_enough(certificate, below)
    return way


def authority_of(
    certificate: x509.Certificate, links: Sequence[x509.Certificate], roots: Sequence[x509.Certificate], now: datetime
) -> Authority:
    """Return the authority that a certificate, its chain and its roots make; raises `Refused`."""
    if links[0] != certificate:
        right = "the certificate first, then those between it and the root, each signed by the next"
        raise Refused(f"begins with {_name(links[0])}, not with istio.caSecret.certificate", right)
    way = path_to_root(links, roots, now)
    ends = min(link.not_valid_after_utc for link in way)
    return Authority(
        certificate=_pem([certificate]), chain=_pem(links), root=_pem(roots), anchor=_pem(way[-1:]), ends=ends
    )


def only(found: Sequence[x509.Certificate]) -> x509.Certificate:
    """Return the one certificate of a file."""
    if len(found) != 1:
        raise Refused(
            f"holds {len(found)} certificates", "the authority's own; all others belong into istio.caSecret.chain"
        )
    return found[0]


def utc_now() -> datetime:
    """Return the time that certificates are held against."""
    return datetime.now(UTC)


def _signed(lower: x509.Certificate, upper: x509.Certificate) -> None:
    if not _is_signed(lower, upper):
        right = "the certificate first, then those between it and the root, each signed by the next"
        raise Refused(f"{_name(lower)} is not signed by the next one, {_name(upper)}", right)


def _is_signed(lower: x509.Certificate, upper: x509.Certificate) -> bool:
    try:
        lower.verify_directly_issued_by(upper)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _strong_enough(certificate: x509.Certificate, below: int) -> None:
    """Check what Go's verification refuses besides: old hashes, and more authorities below one than it allows."""
    if isinstance(certificate.signature_hash_algorithm, _WEAK) and certificate.issuer != certificate.subject:
        raise Refused(f"{_name(certificate)} is signed over an old hash (MD5 or SHA-1)", "one over SHA-256 or better")
    allowed = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    if allowed is not None and allowed < below:
        what = f"{_name(certificate)} allows {allowed} authorities below it (pathlen), and there are {below}"
        raise Refused(what, "an authority that it allows")


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or f"certificate {certificate.serial_number:x}"


def _public(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _pem(found: Sequence[x509.Certificate]) -> str:
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in found)
