"""The simulated hosts: one ssh server on many addresses, each of which answers as a recorded VM did, and as fast.

`python -m bench.hosts` takes `Hosts` as JSON on standard input, prints a line when it listens, and serves until it is
ended. A host that is asked to enrol gets a WorkloadEntry as istiod would have made it, since no sidecar runs on it.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncssh

from bench.recording import Recording, entry_of, known_as, renamed
from lab import paths
from lab.api import Api, object_path
from registration.ladder import CONNECTED_AT
from registration.waves import CONFIGURATION

READY = "listening"
ENROLS = re.compile(r"\benrol\b")
"""A command after which a VM's sidecar runs."""
BACKLOG = 1000


@dataclass(frozen=True)
class Hosts:
    """What the server needs to know."""

    vms: Mapping[str, str]
    """Names by address."""
    recording: Recording
    host_key: str
    """File of the private host key, of all of them."""
    authorized_keys: str
    """File of the public keys that may log in."""
    port: int = 22

    def to_json(self) -> dict[str, Any]:
        """Return plain data that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Hosts:
        """Return what `to_json` was called on."""
        return cls(**{**data, "recording": Recording.from_json(data["recording"])})


class Server:
    """All hosts."""

    def __init__(self, hosts: Hosts, api: Api | None) -> None:
        self._hosts, self._api = hosts, api
        self._asked: Counter[tuple[str, str]] = Counter()
        self._configurations: dict[str, str] = {}

    async def serve(self) -> asyncssh.SSHAcceptor:
        """Listen on all addresses that there are."""
        return await asyncssh.listen(
            "0.0.0.0",
            self._hosts.port,
            backlog=BACKLOG,
            server_host_keys=[self._hosts.host_key],
            authorized_client_keys=self._hosts.authorized_keys,
            process_factory=self._answer,
            encoding=None,
            config=None,
        )

    async def _answer(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        recording, command = self._hosts.recording, process.command or ""
        address = str(process.get_extra_info("sockname")[0])
        vm = self._hosts.vms.get(address, "")
        given = await process.stdin.read()
        self._note(address, given.decode(errors="replace"))
        key = known_as(command, vm, address)
        answers = recording.answers.get(key)
        if not vm or not answers:
            reason = f"no answer was recorded for {vm or address}: {key}"
            print(reason, file=sys.stderr, flush=True)
            process.stderr.write(f"{reason}\n".encode())
            process.exit(127)
            return
        answer = answers[min(self._asked[address, key], len(answers) - 1)]
        self._asked[address, key] += 1
        await asyncio.sleep(answer.seconds)
        if ENROLS.search(command) and answer.status == 0 and self._api:
            await asyncio.to_thread(self._register, self._api, vm, address)
        names = {recording.vm: vm, recording.address: address}
        process.stdout.write(renamed(answer.output, names).encode())
        process.stderr.write(renamed(answer.errors, names).encode())
        process.exit(answer.status)

    def _note(self, address: str, given: str) -> None:
        """Remember with which configuration a host is told to register."""
        found = re.search(rf"{re.escape(CONFIGURATION)}\W+([\w.]+)", given)
        if found:
            self._configurations[address] = found[1]

    def _register(self, api: Api, vm: str, address: str) -> None:
        recording = self._hosts.recording
        metadata = recording.entry["metadata"]
        changed = [
            (metadata["labels"][CONFIGURATION], self._configurations[address]),
            (metadata["annotations"][CONNECTED_AT], datetime.now(UTC).isoformat().replace("+00:00", "Z")),
        ]
        entry = entry_of(recording, vm, address, changed)
        api.apply({key: value for key, value in entry.items() if key != "status"})
        api.patch(f"{object_path(entry)}/status", {"status": entry["status"]})


async def _main() -> None:
    hosts = Hosts.from_json(json.loads(sys.stdin.read()))
    await Server(hosts, Api(paths.KUBECONFIG)).serve()
    print(READY, flush=True)
    await asyncio.Event().wait()


def known_hosts(hosts: Hosts) -> str:
    """Return the text of a known_hosts file for all hosts."""
    public = asyncssh.read_private_key(Path(hosts.host_key)).export_public_key().decode().split()[:2]
    return "".join(f"{address} {' '.join(public)}\n" for address in hosts.vms)


if __name__ == "__main__":
    asyncio.run(_main())
