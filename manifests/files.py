"""Lays objects out as files: one each, the same bytes for the same object, nothing secret in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import yaml

from registration.credentials import VM_LABEL

MARK: Final = "# Written by `make manifests`; do not edit.\n"
SECRET_MARK: Final = "# Its data is secret and not shown.\n"
NO_NAMESPACE: Final = "_cluster"
"""Folder of objects that belong into no namespace; no namespace can have this name."""

Object = Mapping[str, Any]


class ObjectsError(Exception):
    """The objects cannot be laid out."""


@dataclass(frozen=True)
class Changes:
    """What writing a folder changed, as paths in it."""

    written: tuple[str, ...]
    removed: tuple[str, ...]


def of_tokens(obj: Object) -> bool:
    """Whether an object goes with a VM's token: which number it bears is known to the cluster alone."""
    return obj["kind"] in ("Secret", "ConfigMap") and VM_LABEL in (obj["metadata"].get("labels") or {})


def path_of(obj: Object) -> str:
    """The file of an object: `<namespace>/<kind>.<API group>_<name>.yaml`, in lower case."""
    group = obj["apiVersion"].rpartition("/")[0]
    kind = f"{obj['kind']}.{group}".rstrip(".").lower()
    return f"{obj['metadata'].get('namespace', NO_NAMESPACE)}/{kind}_{quote(obj['metadata']['name'])}.yaml"


def text_of(obj: Object) -> str:
    """The file's contents."""
    hidden = ("data", "stringData") if (obj["apiVersion"], obj["kind"]) == ("v1", "Secret") else ()
    shown = {key: value for key, value in obj.items() if key not in hidden}
    body = yaml.safe_dump(shown, sort_keys=True, allow_unicode=True, width=120)
    return MARK + (SECRET_MARK if len(shown) < len(obj) else "") + body


def lay_out(objects: Iterable[Object]) -> dict[str, str]:
    """Path -> contents, sorted by path.

    Raises:
        ObjectsError: Two objects are the same one.
    """
    found: dict[str, str] = {}
    for obj in objects:
        if "name" not in obj["metadata"]:
            raise ObjectsError(f"a {obj['kind']} has no name without a cluster")
        if of_tokens(obj):
            continue
        path = path_of(obj)
        if path in found:
            raise ObjectsError(f"{path}: the stack makes this object twice")
        found[path] = text_of(obj)
    return dict(sorted(found.items()))


def write(folder: Path, files: Mapping[str, str]) -> Changes:
    """Bring a folder to these files: what an earlier run wrote and is not among them goes, anything else stays.

    Raises:
        ObjectsError: A file stands in the way that was not written here.
    """
    there = {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.glob("*/*.yaml"))}
    foreign = [path for path in files if path in there and not there[path].startswith(MARK)]
    if foreign:
        raise ObjectsError(f"{folder / foreign[0]}: not written by this command, so it is not overwritten")
    stale = [path for path, text in there.items() if path not in files and text.startswith(MARK)]
    changed = [path for path, text in files.items() if there.get(path) != text]
    for path in stale:
        (folder / path).unlink()
        if not any((folder / path).parent.iterdir()):
            (folder / path).parent.rmdir()
    for path in changed:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(files[path])
    return Changes(written=tuple(changed), removed=tuple(stale))
