"""Writes container images as docker archives, without a container tool.

An archive is a tar of layer tars, a configuration and a manifest; the same inputs give the same bytes.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import json
import platform
import stat
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class File:
    """A file of an image: where it comes from, and where it goes (an absolute path)."""

    source: Path
    place: str
    mode: int = 0o755


@dataclass(frozen=True, kw_only=True)
class Image:
    """What an image is made of."""

    name: str
    """Its full name with the tag."""
    files: tuple[File, ...]
    entrypoint: tuple[str, ...]
    user: str = ""
    base: Path | None = None
    """A layer tar below the files."""


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Drop from an entry what differs between two builds."""
    entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def write_layer(files: Sequence[File], place: Path) -> None:
    """Write a layer of files that belong to root, with their parent folders and `/tmp`."""
    folders = {parent for file in files for parent in Path(file.place).parents} - {Path("/")}
    with tarfile.open(place, "w", format=tarfile.GNU_FORMAT) as layer:
        for folder in sorted({*folders, Path("/tmp")}):
            entry = tarfile.TarInfo(str(folder).lstrip("/"))
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o1777 if str(folder) == "/tmp" else 0o755
            layer.addfile(entry)
        for file in sorted(files, key=lambda file: file.place):
            entry = tarfile.TarInfo(file.place.lstrip("/"))
            entry.mode = file.mode
            entry.size = file.source.stat().st_size
            with file.source.open("rb") as content:
                layer.addfile(entry, content)


def tree(root: Path, left_out: Sequence[str]) -> Iterator[Path]:
    """Yield the paths of a root in order, parents first.

    Args:
        root: The folder.
        left_out: Patterns of paths relative to it; what lies below a matching folder is left out too.
    """
    for path in sorted(root.iterdir()):
        yield from _walk(path, root, left_out)


def _walk(path: Path, root: Path, left_out: Sequence[str]) -> Iterator[Path]:
    name = str(path.relative_to(root))
    if any(fnmatch.fnmatchcase(name, pattern) for pattern in left_out):
        return
    mode = path.lstat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        return
    yield path
    if stat.S_ISDIR(mode):
        for child in sorted(path.iterdir()):
            yield from _walk(child, root, left_out)


def write_root_layer(root: Path, left_out: Sequence[str], place: Path) -> None:
    """Write a layer from a root file system, with its owners and modes."""
    with tarfile.open(place, "w", format=tarfile.GNU_FORMAT) as layer:
        for path in tree(root, left_out):
            entry = _plain(layer.gettarinfo(path, str(path.relative_to(root))))
            if entry.isreg():
                with path.open("rb") as content:
                    layer.addfile(entry, content)
            else:
                layer.addfile(entry)


def write_image(image: Image, place: Path) -> None:
    """Write an image to `place` as a docker archive."""
    own = place.with_suffix(".layer")
    write_layer(image.files, own)
    layers = [own] if image.base is None else [image.base, own]
    digests = []
    for layer in layers:
        with layer.open("rb") as content:
            digests.append(hashlib.file_digest(content, "sha256").hexdigest())
    config = json.dumps(
        {
            "architecture": ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Entrypoint": image.entrypoint, "User": image.user, "Env": [f"PATH={SEARCH_PATH}"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        },
        sort_keys=True,
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    names = [f"{digest}.tar" for digest in digests]
    manifest = json.dumps([{"Config": config_name, "RepoTags": [image.name], "Layers": names}]).encode()
    with tarfile.open(place, "w", format=tarfile.GNU_FORMAT) as archive:
        _add_bytes(archive, config_name, config)
        for layer, name in zip(layers, names, strict=True):
            with layer.open("rb") as content:
                entry = tarfile.TarInfo(name)
                entry.size = layer.stat().st_size
                archive.addfile(entry, content)
        _add_bytes(archive, "manifest.json", manifest)
    own.unlink()


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))
