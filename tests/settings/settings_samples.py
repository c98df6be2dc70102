"""Keys, digests and names that the tests of the settings share."""

import base64
import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

DIGEST = "0123456789abcdef" * 4
KEY = ed25519.Ed25519PrivateKey.generate()
HOST_KEY = KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
ECDSA_KEY = (
    ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
)
RSA_KEY = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ=="
PRIVATE_KEY = KEY.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
PEM_KEY = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
ENCRYPTED_PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")).decode()


def _openssh(content: bytes) -> str:
    body = base64.b64encode(content).decode()
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{body}\n-----END OPENSSH PRIVATE KEY-----\n"


ENCRYPTED_OPENSSH = _openssh(b"openssh-key-v1\0" + (10).to_bytes(4, "big") + b"aes256-ctr" + b"and the rest of it")
DAMAGED_OPENSSH = _openssh(b"something else")


def hashed(name: str) -> str:
    """Return a name as ssh-keyscan -H writes it."""
    salt = b"a salt of twenty b.."
    digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


LONE_SURROGATE = "\ud800"
