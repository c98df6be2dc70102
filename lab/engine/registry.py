"""Provider instances, by the reference that resources carry, and the types that are Pulumi's own."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from lab.engine import diffs, urns
from lab.engine.providers.base import Context, Diff, Provider, ProviderError, Values
from lab.engine.state import Record, State
from lab.engine.values import UNKNOWN_STRING, Secret, has_unknown, strip_secrets

STACK_REFERENCE = "pulumi:pulumi:StackReference"
ProviderFactory = Callable[[Values], Provider]


def _imported(package: str, name: str) -> ProviderFactory:
    """Return a factory that imports a package's module when a program first uses it."""

    def make(config: Values) -> Provider:
        provider: Provider = getattr(import_module(f"lab.engine.providers.{package}"), name)(config)
        return provider

    return make


PACKAGES: Mapping[str, ProviderFactory] = {
    "kubernetes": _imported("kubernetes", "KubernetesProvider"),
    "command": _imported("command", "CommandProvider"),
}


class Registry:
    """Makes providers from the packages that the engine knows, one instance per provider resource."""

    def __init__(self, packages: Mapping[str, ProviderFactory]) -> None:
        self._packages = packages
        self._instances: dict[str, tuple[Any, Provider]] = {}
        self._lock = threading.Lock()
        self._providers = ProviderResources(self.make)

    def of(self, record: Record, records: Mapping[str, Record]) -> Provider:
        """Return the provider of a resource, as `get` does."""
        return self._providers if urns.is_provider(record.type) else self.get(record.provider, records)

    def make(self, package: str, inputs: Values) -> Provider:
        """Make a provider of a package, or raise ProviderError where the engine has no such package."""
        if package not in self._packages:
            known = ", ".join(sorted(self._packages))
            raise ProviderError(f"package {package} is not part of the embedded engine (which has {known})")
        return self._packages[package](strip_secrets(inputs))

    def get(self, reference: str, records: Mapping[str, Record]) -> Provider:
        """Return the provider of a reference, or raise ProviderError where there is none or it is not known enough."""
        record = find(reference, records)
        if record is None:
            raise ProviderError(f"provider {reference} is neither registered nor in state")
        if has_unknown(record.inputs):
            raise ProviderError(f"{urns.label(record.urn)} depends on what this run makes, so there is no preview")
        with self._lock:
            inputs, provider = self._instances.get(reference, (None, None))
            if provider is None or inputs != record.inputs:
                provider = self.make(urns.package_of(record.type), record.inputs)
                self._instances[reference] = (record.inputs, provider)
            return provider

    def moved(self, old: str, new: str, records: Mapping[str, Record]) -> bool:
        """Tell whether two references lead to different places, so that what the one manages the other does not."""
        if old == new:
            return False
        provider, former = self.get(new, records), find(old, records)
        return former is not None and bool(provider.moved(former.inputs))


def find(reference: str, records: Mapping[str, Record]) -> Record | None:
    """Return the provider resource that a reference names, be it one that is about to be deleted."""
    urn, _, identity = reference.rpartition("::")
    current = records.get(urn)
    if current is not None and identity in (current.id, UNKNOWN_STRING):
        return current
    return next((record for record in list(records.values()) if (record.urn, record.id) == (urn, identity)), current)


class ProviderResources(Provider):
    """Provider resources: an identity, and a replacement when they point at something else."""

    def __init__(self, make: Callable[[str, Values], Provider]) -> None:
        self._make = make

    def check(self, type_: str, old: Values | None, new: Values, *, name: str) -> dict[str, Any]:
        """Refuse packages that the engine does not have."""
        if not has_unknown(new):
            self._make(urns.package_of(type_), new)
        return dict(new)

    def diff(self, type_: str, id_: str, old_inputs: Values, old_outputs: Values, new_inputs: Values) -> Diff:
        """Replace where everything that the provider manages must be replaced."""
        if has_unknown(new_inputs):
            return Diff(changed=True)
        moved = self._make(urns.package_of(type_), new_inputs).moved(old_inputs)
        return Diff(changed=bool(diffs.compare(old_inputs, new_inputs)), replace=moved)

    def create(self, type_: str, inputs: Values, context: Context) -> tuple[str, dict[str, Any]]:
        """Give it an identity."""
        return "" if context.preview else str(uuid.uuid4()), dict(inputs)


def referenced_stack(folder: Path, name: str) -> dict[str, Any]:
    """Return what a StackReference to `stack` or `organization/project/stack` of the same state folder puts out."""
    stack = name.rpartition("/")[2]
    if not (folder / f"{stack}.json").exists():
        raise ProviderError(f"stack reference {name}: there is no stack {stack} in {folder}")
    outputs = stack_outputs(State(folder, stack, writable=False))
    secret = [key for key, value in outputs.items() if isinstance(value, Secret)]
    return {"name": name, "outputs": outputs, "secretOutputNames": secret}


def stack_outputs(state: State) -> dict[str, Any]:
    """Return what a stack's program exported."""
    return next((record.outputs for record in state.records.values() if record.type == urns.STACK_TYPE), {})
