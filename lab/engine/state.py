"""What the last run left behind: a JSON file per stack, and a journal that each step appends to.

Appending keeps a step's cost independent of the state's size, and a run that is killed loses nothing: the next one
reads the file, then the journal. Secrets in both are encrypted.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TextIO, cast

from lab.engine.values import SECRET_SIGNATURE, SIGNATURE, decode, encode


@dataclass(frozen=True, kw_only=True)
class Record:
    """A resource as state keeps it; field names are those of Pulumi's own state, in snake case."""

    urn: str
    type: str
    custom: bool
    id: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    parent: str = ""
    provider: str = ""
    """Reference to the provider resource, `urn::id`."""
    dependencies: tuple[str, ...] = ()
    property_dependencies: dict[str, list[str]] = field(default_factory=dict)
    retain_on_delete: bool = False
    deleted_with: str = ""
    additional_secret_outputs: tuple[str, ...] = ()
    custom_timeouts: dict[str, float] = field(default_factory=dict)
    replace_on_changes: tuple[str, ...] = ()
    init_errors: tuple[str, ...] = ()
    """Why an object that exists is not ready; the next run updates it."""
    delete: bool = False
    """True for the old one of a replacement, to be deleted once its successor stands."""
    pending_replacement: bool = False
    """True when it was deleted to be created anew, and that has not happened yet."""

    def needs(self) -> set[str]:
        """Return the URNs that must exist as long as this resource does."""
        properties = {urn for urns in self.property_dependencies.values() for urn in urns}
        provider = {self.provider.rpartition("::")[0]}
        return (properties | provider | {self.parent, self.deleted_with, *self.dependencies}) - {""}

    def renamed(self, old: str, new: str) -> Record:
        """Return the record with every reference to one URN changed to another."""

        def swap(urns: Iterable[str]) -> list[str]:
            return [new if urn == old else urn for urn in urns]

        provider, _, identity = self.provider.rpartition("::")
        return replace(
            self,
            parent=swap([self.parent])[0],
            provider=f"{new}::{identity}" if provider == old else self.provider,
            dependencies=tuple(swap(self.dependencies)),
            property_dependencies={key: swap(urns) for key, urns in self.property_dependencies.items()},
            deleted_with=swap([self.deleted_with])[0],
        )

    def to_json(self, secret: Callable[[Any], Any]) -> dict[str, Any]:
        """Return the record as Pulumi's JSON, without what is empty; `secret` says what stands for a secret."""
        pairs = ((_camel(item.name), getattr(self, item.name)) for item in fields(self))
        return {key: encode(value, secret) for key, value in pairs if value or key == "custom"}

    @staticmethod
    def from_json(data: Mapping[str, Any], secret: Callable[[Mapping[str, Any]], Any]) -> Record:
        """Undo `to_json`."""
        values: dict[str, Any] = {}
        for item in fields(Record):
            value = decode(data.get(_camel(item.name)), secret)
            if value is not None:
                values[item.name] = tuple(value) if isinstance(value, list) else value
        return Record(**values)


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


class Vault:
    """Encrypts secrets with a random key that lies beside the state, readable by its owner alone."""

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file
        self._cipher: Any = None

    def _aead(self) -> Any:
        if self._cipher is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            if not self._key_file.exists():
                new = self._key_file.with_name(f"key.{os.getpid()}")
                with _private(new, "w") as file:
                    file.write(secrets.token_hex(32))
                with suppress(FileExistsError):  # a link appears whole or not at all, and never replaces a key
                    self._key_file.hardlink_to(new)
                new.unlink()
            self._cipher = AESGCM(bytes.fromhex(self._key_file.read_text()))
        return self._cipher

    def seal(self, content: Any) -> dict[str, str]:
        """Return what stands in state for a secret."""
        nonce = secrets.token_bytes(12)
        sealed = nonce + self._aead().encrypt(nonce, json.dumps(content).encode(), None)
        return {SIGNATURE: SECRET_SIGNATURE, "ciphertext": base64.b64encode(sealed).decode()}

    def open(self, wire: Mapping[str, Any]) -> Any:
        """Return the content of what `seal` made."""
        sealed = base64.b64decode(wire["ciphertext"])
        return json.loads(self._aead().decrypt(sealed[:12], sealed[12:], None))


class State:
    """All records of a stack, by URN (the old one of a replacement: URN and a suffix), and creates under way."""

    def __init__(self, folder: Path, stack: str, *, writable: bool) -> None:
        self.records: dict[str, Record] = {}
        self.creating: set[str] = set()
        """URNs whose create had begun, and not ended, when the last run ended."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = folder / f"{stack}.json"
        self._journal_file = folder / f"{stack}.journal"
        self._vault = Vault(folder / "key")
        self._lock = threading.Lock()
        self._journal: TextIO | None = None
        self._writable = writable
        self._load()
        if writable and self._journal_file.exists():
            self.compact()

    def _load(self) -> None:
        with suppress(FileNotFoundError):
            self._merge(json.loads(self._file.read_text()))
        with suppress(FileNotFoundError):
            for line in self._journal_file.read_text().splitlines():
                with suppress(ValueError):  # the last line may be cut off where the run was killed
                    self._merge(json.loads(line))

    def _merge(self, data: Mapping[str, Any]) -> None:
        for key, value in data["resources"].items():
            if value is None:
                self.records.pop(key, None)
            else:
                self.records[key] = Record.from_json(value, self._vault.open)
        for urn, begun in data["creating"].items():
            (self.creating.add if begun else self.creating.discard)(urn)

    def commit(self, changes: Mapping[str, Record | None], *, creating: Mapping[str, bool] | None = None) -> None:
        """Record the outcome of a step, all of it or nothing.

        Args:
            changes: Records by key; None removes one.
            creating: URNs whose create begins (true) or has ended (false).
        """
        with self._lock:
            for key, record in changes.items():
                if record is None:
                    self.records.pop(key, None)
                else:
                    self.records[key] = record
            for urn, begun in (creating or {}).items():
                (self.creating.add if begun else self.creating.discard)(urn)
            if self._writable:
                self._journal = self._journal or _private(self._journal_file, "w")
                self._journal.write(self._dump(changes, creating or {}) + "\n")

    def _dump(self, records: Mapping[str, Record | None], creating: Mapping[str, bool]) -> str:
        resources = {key: record and record.to_json(self._vault.seal) for key, record in records.items()}
        return json.dumps({"resources": resources, "creating": dict(creating)})

    def compact(self) -> None:
        """Write the whole state anew and do away with the journal; interrupted anywhere, nothing is lost."""
        temporary = self._file.with_suffix(".new")
        with self._lock:
            with _private(temporary, "w") as file:
                file.write(self._dump(self.records, dict.fromkeys(self.creating, True)))
            temporary.rename(self._file)
            self._journal_file.unlink()

    def close(self) -> None:
        """Fold the journal, if there is one, into the state file."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
            self.compact()


def _private(path: Path, mode: str) -> TextIO:
    """Open a text file, line by line, that only its owner may read."""
    return cast("TextIO", open(path, mode, buffering=1, opener=lambda name, flags: os.open(name, flags, 0o600)))


class LockedError(Exception):
    """Another run holds the stack."""


@contextmanager
def locked(folder: Path, stack: str) -> Iterator[None]:
    """Keep other runs off a stack; the lock goes with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _private(folder / f"{stack}.lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LockedError(f"stack {stack} is being changed by {file.read().strip() or 'another run'}") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} since {time.strftime('%H:%M:%S')}\n")
        yield
