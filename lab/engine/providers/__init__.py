"""The packages that the engine knows; a package's module is imported when a program first uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from lab.engine.providers.base import Provider

ProviderFactory = Callable[[Mapping[str, Any]], Provider]


def _lazy(module: str, name: str) -> ProviderFactory:
    def make(config: Mapping[str, Any]) -> Provider:
        provider: Provider = getattr(import_module(module), name)(config)
        return provider

    return make


PACKAGES: Mapping[str, ProviderFactory] = {
    "kubernetes": _lazy("lab.engine.providers.kubernetes", "KubernetesProvider"),
    "command": _lazy("lab.engine.providers.command", "CommandProvider"),
}
