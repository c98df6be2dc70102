"""Builds or installs everything the lab runs, from package registries alone, and caches it."""

from lab.toolchain.build import ensure
from lab.toolchain.commands import BuildError
from lab.toolchain.tools import Tools

__all__ = ["BuildError", "Tools", "ensure"]
