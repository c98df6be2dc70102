"""What a real VM answers to a program's ssh commands, written down by itself, and said again in another VM's name.

Independent of what the commands are: a command is known by its text without the VM's name, address and digests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER = "recorded"
"""On the VM, in its root folder."""
RECORDER = f"""\
#!/bin/sh
# sshd runs this in place of each command.
taken=$(mktemp -d "/{FOLDER}/$(date +%s%N).XXXXXX")
printf '%s' "$SSH_ORIGINAL_COMMAND" >"$taken/command"
begin=$(date +%s%N)
# What is printed goes on at once: with it the connection becomes one that the sidecar's rules spare.
{{
	"${{SHELL:-/bin/sh}}" -c "$SSH_ORIGINAL_COMMAND" 2>"$taken/errors"
	echo $? >"$taken/status"
}} | tee "$taken/output"
status=$(cat "$taken/status")
echo "$status $(($(date +%s%N) - begin))" >"$taken/end"
cat "$taken/errors" >&2
exit $status
"""


@dataclass(frozen=True)
class Answer:
    """What a VM answered to a command, and how many seconds that took."""

    output: str
    errors: str
    status: int
    seconds: float


@dataclass(frozen=True)
class Recording:
    """What one VM answered, and the WorkloadEntry that istiod made for it."""

    vm: str
    address: str
    answers: Mapping[str, list[Answer]]
    """By command as `known_as` has it, in the order in which they were given."""
    entry: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recording:
        """Return what `to_json` was called on."""
        answers = {key: [Answer(**answer) for answer in given] for key, given in data["answers"].items()}
        return cls(data["vm"], data["address"], answers, data["entry"])


def install(root: Path, authorized_keys: Path) -> None:
    """Let a VM's sshd run the recorder.

    Args:
        root: The VM's file system.
        authorized_keys: Path on the VM of the file that every login is checked with.
    """
    recorder = root / FOLDER / "recorder"
    recorder.parent.mkdir(mode=0o700)
    recorder.write_text(RECORDER)
    recorder.chmod(0o755)
    keys = root / authorized_keys.relative_to("/")
    lines = keys.read_text().splitlines()
    keys.write_text("".join(f'command="/{FOLDER}/recorder" {line}\n' for line in lines))


def read(root: Path, vm: str, address: str, entry: Mapping[str, Any]) -> Recording:
    """Return what the recorder has written down on a VM; what has not come to its end is left out."""
    answers: dict[str, list[Answer]] = {}
    for taken in sorted((root / FOLDER).iterdir()):
        if (taken / "end").exists():
            status, nanoseconds = (taken / "end").read_text().split()
            command, output, errors = (
                (taken / name).read_text(errors="replace") for name in ("command", "output", "errors")
            )
            given = answers.setdefault(known_as(command, vm, address), [])
            given.append(Answer(output, errors, int(status), int(nanoseconds) / 1e9))
    return Recording(vm, address, answers, entry)


def known_as(command: str, vm: str, address: str) -> str:
    """Return a command without what tells one VM, or one state of it, from the next."""
    return re.sub(r"\b[0-9a-f]{8,64}\b", "{digest}", renamed(command, {vm: "{vm}", address: "{address}"}))


def renamed(text: str, names: Mapping[str, str]) -> str:
    """Return a text in which names are replaced where they stand as whole words."""
    alternatives = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.sub(rf"(?<![\w.])(?:{alternatives})(?!\w|\.\d)", lambda found: names[found[0]], text)


def entry_of(recording: Recording, vm: str, address: str, changed: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the WorkloadEntry that istiod would make for another VM.

    Args:
        recording: What it made for the recorded one.
        vm: The other VM's name.
        address: Its address.
        changed: Texts of the recorded entry, and what stands in their place.
    """
    metadata = recording.entry["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace", "labels", "annotations") if key in metadata}
    entry = {key: recording.entry[key] for key in ("apiVersion", "kind", "spec", "status")} | {"metadata": kept}
    names = {recording.vm: vm, recording.address: address} | dict(changed)
    renewed: dict[str, Any] = json.loads(renamed(json.dumps(entry), names))
    return renewed
