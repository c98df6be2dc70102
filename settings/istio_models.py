"""Parts of the control plane's configuration; attribute docstrings are the configuration reference."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import model_validator

from settings.chart_values import Writable
from settings.model import Model
from settings.problems import wrong
from settings.scalars import FilePath

_FILES = ("certificate", "key", "root")


class CaSecret(Model):
    """The authority that signs the mesh's certificates: PEM files, or the Secret that somebody else makes of them."""

    certificate: FilePath | None = None
    """Certificate of the authority that istiod signs with; it must be signed by `root`, directly or over `chain`."""
    key: FilePath | None = None
    """Its private key, without a passphrase, in a file that only its owner can read."""
    root: FilePath | None = None
    """The root certificate that everything in the mesh trusts; while a root is exchanged for another one, both."""
    chain: FilePath | None = None
    """The certificate, then those between it and the root, each signed by the next. Without it `certificate`."""
    existing: Literal["cacerts"] | None = None
    """`cacerts`, the only name that istiod reads, where somebody else keeps this Secret in `istio-system`: it must be
    there before istiod, with `ca-cert.pem`, `ca-key.pem`, `cert-chain.pem` and `root-cert.pem`. This program reads its
    certificates only."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        """Refuse half of one way, and both."""
        given = [key for key in (*_FILES, "chain") if getattr(self, key) is not None]
        missing = [key for key in _FILES if getattr(self, key) is None]
        if self.existing is not None and given:
            raise wrong(f"names files ({', '.join(given)}) and an existing Secret", "one of the two")
        if self.existing is None and missing:
            raise wrong(f"names no {', '.join(missing)}", "certificate, key and root, or existing: cacerts")
        return self


class Cni(Model):
    """Istio's CNI plugin, which redirects pods' traffic in place of a privileged init container."""

    enabled: bool = False
    """Whether it is installed, as DaemonSet `istio-cni-node` in `istio-system`, and pods are injected for it."""
    values: Annotated[Mapping[str, Any], Writable] = {}
    """More values for the chart `cni`, merged under the ones this program sets."""
