"""Checks of the ingress gateway's certificates, which become part of the settings: that TLS works with them at all."""

import re
import ssl
from collections.abc import Iterable
from pathlib import Path

from pydantic import SecretStr

from settings import files
from settings.problems import Refused

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)
_HOSTNAME_MISMATCH = 62
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH."""
_KEY_MISMATCH = "KEY_VALUES_MISMATCH"


def certificates_in(path: Path) -> str:
    """Return the certificates of a PEM file, and nothing that stands between them."""
    found = _CERTIFICATE.findall(files.read(path))
    if not found:
        raise Refused("holds no certificate", "a PEM file, with its BEGIN and END lines")
    text = "".join(f"{pem}\n" for pem in found)
    try:
        ssl.create_default_context(cadata=text)
    except (ssl.SSLError, ValueError):
        raise Refused("holds a damaged certificate", "a PEM file as openssl x509 reads it") from None
    return text


def key_of(certificate: Path, path: Path) -> SecretStr:
    """Return the private key of a certificate, after a check that it is that."""
    key = files.private_key_file(path)
    try:
        _server(certificate, path)
    except ssl.SSLError as error:
        if error.reason == _KEY_MISMATCH:
            right = f"the key of the first certificate in {certificate.name}"
            raise Refused("not the key of its certificate", right) from None
        raise Refused("is no private key for TLS", "a PEM key, as openssl pkey reads it") from None
    return SecretStr(key)


def check_names(certificate: Path, key: Path, hosts: Iterable[str]) -> None:
    """Check that a certificate is for hosts, by handshakes in memory."""
    server = _server(certificate, key)
    client = ssl.create_default_context(cadata=certificates_in(certificate))
    # The certificate itself is trusted: nothing but its names is in question.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for host in hosts:
        # Any name below stands for all: a certificate's `*` takes the place of one label.
        if _refusal(server, client, host.replace("*", "any", 1)) == _HOSTNAME_MISMATCH:
            raise Refused(f"not for {host}", f"a certificate with the name {host}")


def _server(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key, password="")
    return context


def _refusal(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> int:
    """Return OpenSSL's number for why a client would refuse a server; 0 where it would not."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(back, there, server_hostname=host), server.wrap_bio(there, back, server_side=True))
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError as error:
                return error.verify_code
    return 0
