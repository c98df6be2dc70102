"""Checks of the files that a stack file points to: kubeconfig, charts, checksums, ssh keys.

Each function returns what it read, or raises `Refused` with what is wrong and what would be right.
"""

import base64
import binascii
import hashlib
import re
import stat
import struct
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from settings.chart_values import check_values
from settings.problems import Refused
from settings.yaml_text import load_yaml

_LONGEST = 1 << 20
"""Bytes of a file that are read at most."""
_PEM = re.compile(r"-----BEGIN ([A-Z ]*PRIVATE KEY)-----\s(.*?)-----END \1-----", re.DOTALL)
_CHECKSUM = re.compile(r"([0-9A-Fa-f]{64})(?:\s+\*?(.+))?")
_OPENSSH = b"openssh-key-v1\0"
_CHARTS = ("base", "istiod", "gateway")


def locate(project: Path, path: str) -> Path:
    """Return where a path of the configuration leads: relative to the project, `~/` to the home folder."""
    try:
        return project / Path(path).expanduser()
    except RuntimeError:
        raise Refused("names a home folder that is not there", "a path relative to the project") from None


def read(path: Path) -> str:
    """Return a file's text."""
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "no such file"
            raise Refused(what, "the path of a file, relative to the project")
        with path.open("rb") as file:
            return file.read(_LONGEST).decode()
    except OSError as error:
        raise Refused(f"cannot be read: {error.strerror}", "a file that this user can read") from None
    except UnicodeDecodeError:
        raise Refused("is no text file", "a text file") from None
    except ValueError:
        raise Refused("not a path", "a path relative to the project") from None


def contexts(path: Path) -> list[str]:
    """Return the names of a kubeconfig's contexts."""
    try:
        config: Any = yaml.load(read(path), Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError):
        config = None
    if not isinstance(config, dict) or not isinstance(config.get("clusters"), list):
        raise Refused("is no kubeconfig", "a file as kubectl reads it")
    entries = config.get("contexts")
    return [str(e.get("name")) for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []


def chart_values(path: Path) -> dict[str, Any]:
    """Return what a file with values for a chart holds; nothing of one that is empty."""
    try:
        content = load_yaml(read(path))
    except (yaml.YAMLError, ValueError) as error:
        raise Refused(f"is no YAML: {' '.join(str(error).split())}", "correct it") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise Refused("holds no values", "keys with values, as in a chart's values.yaml")
    check_values(content)
    return content


def charts(project: Path, place: str, *more: str) -> None:
    """Check that a place is a chart repository, or a folder with the charts this program installs, and some more."""
    if "://" in place:
        if not re.fullmatch(r"(https?|oci)://[A-Za-z0-9][!-~]*", place):
            raise Refused("not a chart repository", "https://..., oci://... or a folder")
        return
    folder, asked = locate(project, place), [*_CHARTS, *more]
    try:
        there = folder.is_dir()
        missing = [name for name in asked if not (folder / name / "Chart.yaml").is_file()]
    except (OSError, ValueError):
        there, missing = False, []
    if not there:
        raise Refused("no such folder", "a folder with the charts base, istiod and gateway, or a repository's URL")
    if missing:
        right = f"a folder with the charts {', '.join(asked[:-1])} and {asked[-1]}"
        raise Refused(f"has no chart {', '.join(missing)}", right)


def checksum(project: Path, sha256: str, name: str) -> str:
    """Return the SHA-256 that a configuration gives as digits or as the path of a checksum file, of a file so named."""
    if re.fullmatch(r"[0-9A-Fa-f]{64}", sha256):
        return sha256.lower()
    if re.fullmatch(r"[0-9A-Fa-f]{32,}", sha256):
        raise Refused(f"has {len(sha256)} hex digits", "64 hex digits, or the path of a checksum file")
    found: list[str] = []
    for line in read(locate(project, sha256)).splitlines():
        match = _CHECKSUM.fullmatch(line.strip())
        if match and (match[2] is None or match[2].removeprefix("./") == name):
            found.append(match[1].lower())
    if len(found) != 1:
        raise Refused(
            f"has {len(found) or 'no'} line{'s' if len(found) > 1 else ''} for {name}",
            f"a checksum file with exactly one line '<64 hex digits>  {name}'",
        )
    return found[0]


def file_name(url: str) -> str:
    """Return the name of the file that a URL leads to."""
    return unquote(urlsplit(url).path.rpartition("/")[2])


def package(project: Path, file: str, sha256: str) -> None:
    """Check that a package is there and is the one of that SHA-256."""
    path = locate(project, file)
    try:
        if not path.is_file():
            raise Refused("no such file", "the path of a package, relative to the project")
        with path.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise Refused(f"cannot be read: {error.strerror}", "a file that this user can read") from None
    except ValueError:
        raise Refused("not a path", "a path relative to the project") from None
    if found != sha256:
        raise Refused(f"has SHA-256 {found}", f"the file of SHA-256 {sha256}, or that file's own")


def private_key_file(path: Path) -> str:
    """Return the private key in a file that only its owner can read."""
    text = read(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise Refused(f"others can read or write it (mode {mode:04o})", f"chmod 600 {path.name}")
    return private_key(text)


def private_key(text: str) -> str:
    """Return an unencrypted private key, newline at its end, after a check that it is one."""
    match = _PEM.search(text)
    if match is None:
        raise Refused("is no private key", "an OpenSSH or PEM private key, with its BEGIN and END lines")
    label, body = match[1], match[2]
    encrypted = "ENCRYPTED" in label or "Proc-Type: 4,ENCRYPTED" in body
    if label == "OPENSSH PRIVATE KEY":
        try:
            blob = base64.b64decode("".join(body.split()), validate=True)
            (length,) = struct.unpack_from(">I", blob, len(_OPENSSH))
        except (binascii.Error, ValueError, struct.error):
            blob, length = b"", 0
        if not blob.startswith(_OPENSSH):
            raise Refused("is a damaged private key", "an OpenSSH or PEM private key, with its BEGIN and END lines")
        start = len(_OPENSSH) + 4
        encrypted = blob[start : start + length] != b"none"
    if encrypted:
        raise Refused("is encrypted with a passphrase", "a key without one (ssh-keygen -p), kept as a stack secret")
    return text.strip() + "\n"
