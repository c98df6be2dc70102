"""The sidecar's packages as a stack file names them; attribute docstrings are the configuration reference."""

from pydantic import model_validator

from settings.model import Model
from settings.problems import wrong
from settings.scalars import Digest, FilePath, Unavailable, Url


class Package(Model):
    """A package of the sidecar: exactly one of url and file, always with its SHA-256."""

    url: Url | None = None
    """Where the VM downloads the package: an http or https URL that the VM reaches."""
    file: FilePath | None = None
    """Path of the package where Pulumi runs; every VM gets a copy over ssh, for VMs that reach no mirror."""
    sha256: Digest
    """SHA-256 of the package: 64 hex digits, or the path of a file as `sha256sum` writes it, with one line for it."""

    @model_validator(mode="after")
    def _one_source(self) -> "Package":
        if (self.url is None) == (self.file is None):
            raise wrong("has url and file" if self.url else "has neither url nor file", "exactly one of url and file")
        return self


class Packages(Model):
    """The sidecar's packages for one architecture; a VM gets the one that its package manager takes."""

    deb: Package | None = None
    """Package for Debian, Ubuntu and their like."""
    rpm: Package | None = None
    """Package for Fedora, RHEL, SUSE and their like."""

    @model_validator(mode="after")
    def _not_empty(self) -> "Packages":
        if self.deb is None and self.rpm is None:
            raise wrong("names no package", "deb or rpm or both, as in {deb: {url: ..., sha256: ...}}")
        return self


class Sidecar(Model):
    """The sidecar's packages by architecture; a VM gets the one that fits it."""

    amd64: Packages | None = None
    """Packages for x86-64."""
    arm64: Packages | None = None
    """Packages for 64-bit ARM."""

    @model_validator(mode="after")
    def _not_empty(self) -> "Sidecar":
        if self.amd64 is None and self.arm64 is None:
            raise wrong("names no package", "amd64 or arm64 or both, as in {amd64: {deb: {url: ..., sha256: ...}}}")
        return self


class Rollout(Model):
    """How VMs that serve are changed: in waves, each once the one before is healthy again.

    The first VM that does not come back gets its former configuration and package, and halts the rest; the next `up`
    goes on from there. VMs that do not serve (new, dead or unhealthy) are changed at once, and halt nobody.
    """

    max_unavailable: Unavailable = 1
    """Size of a wave: how many VMs of a workload are changed, and so away, at the same time. A share is of the
    workload's VMs, rounded down, but at least one."""
