"""The authority that istiod signs with, where it is not one of istiod's own making.

istiod reads the Secret `cacerts` when it starts. It takes no other root while it runs (`handleEvent` in Istio's
`pilot/pkg/bootstrap/istio_ca.go`), so its pods have an annotation with what the Secret holds: a change restarts them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

SECRET = "cacerts"
ADOPTED = "istio-vm-mesh/adopted"
"""Annotation of a namespace that somebody else has made."""
FILES = {"certificate": "ca-cert.pem", "key": "ca-key.pem", "root": "root-cert.pem", "chain": "cert-chain.pem"}
"""What the files of the Secret are called: see `security/pkg/pki/ca/ca.go` of Istio."""
ANNOTATION = "istio-vm-mesh/ca"
_END = "-----END CERTIFICATE-----\n"


@dataclass(frozen=True, kw_only=True)
class Ca:
    """An authority, as PEM texts."""

    certificate: str
    chain: str
    root: str
    anchor: str = ""
    """The one of the roots that the authority is under."""
    key: pulumi.Output[str] | None = None
    """The private key, a secret; None where the Secret is somebody else's."""

    @property
    def data(self) -> Mapping[str, pulumi.Input[str]]:
        """Contents of the Secret."""
        assert self.key is not None
        return {
            FILES["certificate"]: self.certificate,
            FILES["chain"]: self.chain,
            FILES["key"]: self.key,
            FILES["root"]: self.root,
        }

    @property
    def values(self) -> Mapping[str, Any]:
        """Values of the chart `istiod` that restart it with another authority."""
        return {"podAnnotations": {ANNOTATION: digest(self.certificate, self.chain, self.root)}}


def digest(*texts: str) -> str:
    """The start of the SHA-256 of some texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def roots(text: str) -> set[str]:
    """Each certificate of a PEM text by itself."""
    return {part.strip() for part in f"{text.strip()}\n".split(_END) if part.strip()}


def announcement(now: str, wanted: str, anchor: str) -> str:
    """What to tell of a root that is to replace the mesh's; empty where nothing is to be told.

    Args:
        now: The mesh's roots; empty where there is none yet.
        wanted: Those that it is to have.
        anchor: The one of them that the authority is under.
    """
    before, after = roots(now), roots(wanted)
    trusted = roots(anchor) <= before
    if not before or (before == after and trusted):
        return ""
    said = "istio.caSecret: the mesh gets another root of trust: istiod restarts, and every VM gets it with a new token"
    if trusted:
        return f"{said}; what has a certificate of a root that both have stays connected meanwhile"
    return (
        f"{said}. None of the roots that the mesh has now signed the new authority: gateways and pods do not trust "
        "istiod, VMs and each other until they have the new root, a minute or more later. Without that: first up with "
        "both roots in istio.caSecret.root, then with the new certificate, then without the old root "
        "(docs/control-plane.md)"
    )
