"""Whether a VM says that its certificate is good."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from host_program import HOST, run


def certificate(hours: float) -> bytes:
    """A certificate that runs out in so many hours."""
    now, key = datetime.now(UTC), ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    end = now + timedelta(hours=hours)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, end - timedelta(days=1), end)
    return builder.sign(key, None).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(("hours", "key", "good"), [(1, "key", True), (-1, "key", False), (1, "", False)])
def test_a_certificate_counts_while_it_is_valid_and_has_its_key(
    tmp_path: Path, hours: float, key: str, good: bool
) -> None:
    certs = tmp_path / "etc/certs"
    certs.mkdir(parents=True)
    (certs / "key.pem").write_text(key)
    (certs / "cert-chain.pem").write_bytes(certificate(hours))
    done = run("sh", tmp_path, HOST, "if certified; then echo yes; else echo no; fi")
    assert done.stdout == (b"yes\n" if good else b"no\n"), done.stderr


def test_a_look_shows_the_first_certificate_alone(tmp_path: Path) -> None:
    certs = tmp_path / "etc/certs"
    certs.mkdir(parents=True)
    (certs / "key.pem").write_text("key")
    first, issuer = certificate(1), certificate(24)
    (certs / "cert-chain.pem").write_bytes(first + issuer)
    done = run("sh", tmp_path, HOST, "observe")
    told = [line.removeprefix("certificate ") for line in done.stdout.decode().splitlines() if line != "end"]
    assert told == first.decode().splitlines(), done.stderr
