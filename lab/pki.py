"""Keys and certificates of a cluster, fresh at each start: elliptic curves, so all of them take a fraction of a second.

What is issued to whom is data (`certificates`); the rest turns it into files that only root can read.
"""

from __future__ import annotations

import datetime
import ipaddress
import json
import os
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.spec import ClusterSpec

CA = "ca"
SERVICE_ACCOUNT_KEY = "service-account"
ADMIN = "admin"
_VALID = datetime.timedelta(days=365)


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """One certificate to issue."""

    file: str
    """Name of its .crt and .key."""
    common_name: str
    organization: str = ""
    names: tuple[str, ...] = ()
    """DNS names and IP addresses of a server; none for a mere client."""
    kubeconfig: bool = False
    """Whether its holder also gets a kubeconfig of the same name."""


def certificates(cluster: ClusterSpec) -> tuple[Certificate, ...]:
    """Return all certificates of a cluster's control plane and node."""
    service = "kubernetes.default.svc"
    api_names = ("kubernetes", "kubernetes.default", service, f"{service}.cluster.local", "localhost")
    api_addresses = (cluster.api_service_address, cluster.address, "127.0.0.1")
    node = f"system:node:{cluster.node}"
    return (
        Certificate(file="apiserver", common_name="kube-apiserver", names=api_names + api_addresses),
        Certificate(
            file="apiserver-kubelet-client", common_name="kube-apiserver-kubelet-client", organization="system:masters"
        ),
        Certificate(file="front-proxy-client", common_name="front-proxy-client"),
        Certificate(file=ADMIN, common_name="admin", organization="system:masters", kubeconfig=True),
        Certificate(file="controller-manager", common_name="system:kube-controller-manager", kubeconfig=True),
        Certificate(file="scheduler", common_name="system:kube-scheduler", kubeconfig=True),
        Certificate(file="kube-proxy", common_name="system:kube-proxy", kubeconfig=True),
        Certificate(
            file="kubelet",
            common_name=node,
            organization="system:nodes",
            names=(cluster.node, cluster.address),
            kubeconfig=True,
        ),
    )


def kubeconfig(cluster: ClusterSpec, user: str, *, ca: bytes, certificate: bytes, key: bytes) -> str:
    """Return a kubeconfig, as JSON, with its credentials inside."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": cluster.name, "cluster": {"server": cluster.server, "certificate-authority-data": _base64(ca)}}
            ],
            "users": [
                {
                    "name": user,
                    "user": {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)},
                }
            ],
            "contexts": [{"name": cluster.name, "context": {"cluster": cluster.name, "user": user}}],
            "current-context": cluster.name,
        },
        indent=1,
    )


def create(cluster: ClusterSpec) -> None:
    """Issue everything into the cluster's folder."""
    folder = cluster.pki
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_certificate = _authority(f"{cluster.name}-ca", ca_key)
    ca_pem = _pem(ca_certificate)
    write_private(folder / f"{CA}.key", _key_pem(ca_key))
    write_private(folder / f"{CA}.crt", ca_pem)
    for wanted in certificates(cluster):
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, key_pem = _pem(_issue(wanted, key, ca_certificate, ca_key)), _key_pem(key)
        write_private(folder / f"{wanted.file}.key", key_pem)
        write_private(folder / f"{wanted.file}.crt", certificate)
        if wanted.kubeconfig:
            text = kubeconfig(cluster, wanted.file, ca=ca_pem, certificate=certificate, key=key_pem)
            write_private(folder / f"{wanted.file}.kubeconfig", text.encode())
    tokens = ec.generate_private_key(ec.SECP256R1())
    write_private(folder / f"{SERVICE_ACCOUNT_KEY}.key", _key_pem(tokens))
    public = tokens.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_private(folder / f"{SERVICE_ACCOUNT_KEY}.pub", public)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, at no moment anybody else."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _authority(name: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _builder(subject, subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )


def _issue(
    wanted: Certificate,
    key: ec.EllipticCurvePrivateKey,
    ca_certificate: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, wanted.common_name)]
    if wanted.organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, wanted.organization))
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if wanted.names else [])]
    builder = _builder(x509.Name(attributes), ca_certificate.subject, key).add_extension(
        x509.ExtendedKeyUsage(uses), critical=False
    )
    if wanted.names:
        names = x509.SubjectAlternativeName([_general_name(name) for name in wanted.names])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _VALID)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _base64(content: bytes) -> str:
    return b64encode(content).decode()
