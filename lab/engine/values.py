"""Property values of the engine, and their three encodings: protobuf for the SDK, JSON for state, text for people.

In Python a value is plain JSON plus the wrappers below, so that everything else in the engine can use ordinary
dictionaries and never meets a wire signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from google.protobuf import json_format, struct_pb2

SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
"""The key that marks an object on the wire, and in state, as something other than a plain object."""
SECRET_SIGNATURE: Final = "1b47061264138c4ac30d75fd1eb44270"
ASSET_SIGNATURE: Final = "c44067f5952c0a294b673a41bacd8c17"
ARCHIVE_SIGNATURE: Final = "0def7320c3a5731c473e5ecbe6d01bc7"
RESOURCE_SIGNATURE: Final = "5cf8f73096256a8f31e491e813e4eb8e"
OUTPUT_SIGNATURE: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
UNKNOWN_STRING: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""How the SDK writes a value that will be known only once its resource exists."""
HIDDEN: Final = "[secret]"


class Unknown:
    """A value that is not known yet; compare with `is UNKNOWN`."""

    def __deepcopy__(self, memo: object) -> Unknown:
        return self

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown()


@dataclass(frozen=True)
class Secret:
    """A value that must be encrypted in state and never shown. Never nested in another secret."""

    value: Any

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})"


@dataclass(frozen=True)
class ResourceReference:
    """A resource used as a value; `id` is None for components."""

    urn: str
    id: Any = None


@dataclass(frozen=True)
class FileAsset:
    """A file used as a value; it is its content, not its place."""

    path: str = field(compare=False)
    hash: str
    """SHA-256 of the content."""


def encode(value: Any, secret: Callable[[Any], Any]) -> Any:
    """Turn a value into plain JSON with signatures.

    Args:
        value: The value; mappings, sequences, scalars and the wrappers of this module.
        secret: Says what stands for a secret; gets the secret's content, already encoded.
    """
    match value:
        case Secret(value=content):
            return secret(encode(content, secret))
        case Unknown():
            return UNKNOWN_STRING
        case Mapping():
            return {key: encode(item, secret) for key, item in value.items()}
        case list() | tuple():
            return [encode(item, secret) for item in value]
        case ResourceReference():
            reference = {SIGNATURE: RESOURCE_SIGNATURE, "urn": value.urn}
            return reference if value.id is None else reference | {"id": encode(value.id, secret)}
        case FileAsset():
            return {SIGNATURE: ASSET_SIGNATURE, "path": value.path, "hash": value.hash}
        case _:
            return value


def decode(value: Any, secret: Callable[[Mapping[str, Any]], Any] = lambda wire: wire.get("value")) -> Any:
    """Undo `encode`; whole numbers become integers.

    Args:
        value: JSON with signatures, as the SDK or the state file holds it.
        secret: Returns the (still encoded) content of a secret from its wire form.
    """
    if isinstance(value, list):
        return [decode(item, secret) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value == UNKNOWN_STRING:
        return UNKNOWN
    if not isinstance(value, dict):
        return value
    match value.get(SIGNATURE):
        case str(signature) if signature == SECRET_SIGNATURE:
            return make_secret(decode(secret(value), secret))
        case str(signature) if signature == OUTPUT_SIGNATURE:
            content = decode(value["value"], secret) if "value" in value else UNKNOWN
            return make_secret(content) if value.get("secret") else content
        case str(signature) if signature == ASSET_SIGNATURE and "path" in value:
            return FileAsset(value["path"], value.get("hash") or _digest(value["path"]))
        case str(signature) if signature in (ASSET_SIGNATURE, ARCHIVE_SIGNATURE):
            raise ValueError("of assets and archives the embedded engine supports files only")
        case str(signature) if signature == RESOURCE_SIGNATURE:
            return ResourceReference(value["urn"], decode(value["id"], secret) if "id" in value else None)
        case _:
            return {key: decode(item, secret) for key, item in value.items()}


def _digest(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None


def from_struct(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Read the properties that the SDK sent."""
    return {key: decode(item) for key, item in json_format.MessageToDict(struct).items()}


def to_struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    """Write properties for the SDK, secrets marked as such."""
    struct = struct_pb2.Struct()
    struct.update(encode(values, lambda content: {SIGNATURE: SECRET_SIGNATURE, "value": content}))
    return struct


def make_secret(value: Any) -> Secret:
    """Wrap a value, secrets inside it dissolved, since the whole is secret now."""
    return Secret(strip_secrets(value))


def strip_secrets(value: Any) -> Any:
    """Return the value with every secret unwrapped, as providers need it."""
    match value:
        case Secret(value=content):
            return strip_secrets(content)
        case Mapping():
            return {key: strip_secrets(item) for key, item in value.items()}
        case list() | tuple():
            return [strip_secrets(item) for item in value]
        case _:
            return value


def redact(value: Any) -> Any:
    """Return plain JSON for display: secrets as "[secret]", unknown values as the SDK's string."""
    return encode(value, lambda _: HIDDEN)


def has_secret(value: Any) -> bool:
    """Tell whether any part of the value is secret."""
    return _any(value, lambda item: isinstance(item, Secret))


def has_unknown(value: Any) -> bool:
    """Tell whether any part of the value is not known yet."""
    return _any(value, lambda item: item is UNKNOWN)


def _any(value: Any, test: Callable[[Any], bool]) -> bool:
    if test(value):
        return True
    match value:
        case Secret(value=content):
            return _any(content, test)
        case Mapping():
            return any(_any(item, test) for item in value.values())
        case list() | tuple():
            return any(_any(item, test) for item in value)
        case ResourceReference(id=identity):
            return test(identity)
        case _:
            return False


def copy_secrets(outputs: Any, inputs: Any) -> Any:
    """Mark in outputs what is secret at the same place in inputs, since providers are given plain values."""
    if isinstance(outputs, Secret):
        return outputs
    if isinstance(inputs, Secret):
        return make_secret(outputs)
    if isinstance(outputs, Mapping) and isinstance(inputs, Mapping):
        return {key: copy_secrets(item, inputs[key]) if key in inputs else item for key, item in outputs.items()}
    if isinstance(outputs, list) and isinstance(inputs, list) and has_secret(inputs):
        return make_secret(outputs)
    return outputs


def secret_strings(value: Any, *, shortest: int = 4, inside: int = 4, secret: bool = False) -> set[str]:
    """Collect the texts of secrets, for hiding them wherever else they turn up.

    Args:
        value: Any value; only what is secret in it counts.
        shortest: Shorter texts are left out: they are in every other word.
        inside: The same for texts inside an object that is secret as a whole, where most are harmless (the SDK makes
            an ssh connection secret, its user and address too).
        secret: Whether the value is secret as a whole.
    """
    match value:
        case Secret(value=content):
            return secret_strings(content, shortest=shortest, inside=inside, secret=True)
        case str():
            return {value} if secret and len(value.strip()) >= shortest and value != UNKNOWN_STRING else set()
        case Mapping() | list() | tuple():
            items = value.values() if isinstance(value, Mapping) else value
            limit = inside if secret else shortest
            return set().union(*(secret_strings(item, shortest=limit, inside=inside, secret=secret) for item in items))
        case _:
            return set()


def veil(value: Any, source: Any) -> Any:
    """Mark as secret every text in a value that contains a secret of the source it was made from."""
    texts = secret_strings(source)

    def mark(item: Any) -> Any:
        match item:
            case Mapping():
                return {key: mark(inner) for key, inner in item.items()}
            case list() | tuple():
                return [mark(inner) for inner in item]
            case str() if any(text in item for text in texts):
                return Secret(item)
            case _:
                return item

    return mark(value) if texts else value
