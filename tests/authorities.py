"""Certificate authorities for tests: roots, what they sign, and all that can be wrong with them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

NOW = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Made:
    """A certificate and its key."""

    certificate: x509.Certificate
    private: Any

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def key(self) -> str:
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def make(
    name: str,
    by: Made | None = None,
    *,
    ca: bool = True,
    signs: bool = True,
    pathlen: int | None = None,
    days: float = 365,
    since: float = -1,
    key: Any = None,
    now: datetime.datetime | None = None,
) -> Made:
    """A certificate, signed by another one or by itself; times are days from now."""
    private = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = now or datetime.datetime.now(datetime.UTC)
    usage = dict.fromkeys(
        ["data_encipherment", "key_agreement", "content_commitment", "encipher_only", "decipher_only"], False
    )
    usage |= {"digital_signature": True, "key_encipherment": False, "key_cert_sign": signs, "crl_sign": signs}
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=min(since, days - 1)))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=pathlen if ca else None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(by.private if by else private, hashes.SHA256())
    )
    return Made(certificate, private)


def put(
    folder: Path, *, certificate: Made, root: str, chain: str = "", key: str = "", text: str = ""
) -> dict[str, str]:
    """Write an authority's files; return what a stack says of them under `caSecret`."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"certificate": text or certificate.pem, "key": key or certificate.key, "root": root, "chain": chain}
    for name, text in texts.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600 if name == "key" else 0o644)
    return {name: str(folder / name) for name, text in texts.items() if text}
