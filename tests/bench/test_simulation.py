"""The recorder on a real shell, and the simulated hosts as a real ssh server that a real client asks."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import asyncssh
from waiting import wait_for

from bench import recording
from bench.hosts import Hosts, Server, known_hosts
from bench.mesh import answered
from bench.recording import Answer, Recording, entry_of, known_as
from bench.simulation import simulated_vms

DIGEST = "0123456789abcdef"
ENTRY: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "WorkloadEntry",
    "metadata": {"name": "bench-127.0.0.9-net1", "namespace": "n", "uid": "u", "labels": {"c": "old"}},
    "spec": {"address": "127.0.0.9", "labels": {"c": "old", "older": "bench-10"}},
    "status": {"conditions": []},
}


def test_commands_are_known_without_names_and_digests() -> None:
    assert (
        known_as(f"sh host remove 10.78.0.1 bench-1 {DIGEST} bench-10 10.78.0.10 deadbeef", "bench-1", "10.78.0.1")
        == "sh host remove {address} {vm} {digest} bench-10 10.78.0.10 {digest}"
    )


def test_another_vms_entry() -> None:
    found = entry_of(Recording("bench-1", "127.0.0.9", {}, ENTRY), "bench-7", "10.78.0.7", [("old", "new")])
    assert found["metadata"] == {"name": "bench-10.78.0.7-net1", "namespace": "n", "labels": {"c": "new"}}
    assert found["spec"] == {"address": "10.78.0.7", "labels": {"c": "new", "older": "bench-10"}}


def test_the_recorder_passes_all_on_and_writes_it_down(tmp_path: Path) -> None:
    keys = tmp_path / "etc/keys"
    keys.parent.mkdir()
    keys.write_text("ssh-ed25519 AAAA lab\n")
    recording.install(tmp_path, Path("/etc/keys"))
    assert keys.read_text() == 'command="/recorded/recorder" ssh-ed25519 AAAA lab\n'
    recorder = tmp_path / "local"
    recorder.write_text(recording.RECORDER.replace("/recorded/", f"{tmp_path}/recorded/"))
    for number in range(2):
        command = f"cat; echo bench-1 {number}; echo no >&2; exit {number}"
        done = subprocess.run(
            ["sh", recorder], input="in ", env={"SSH_ORIGINAL_COMMAND": command}, capture_output=True, text=True
        )
        assert (done.stdout, done.stderr, done.returncode) == (f"in bench-1 {number}\n", "no\n", number)
        time.sleep(0.001)
    found = recording.read(tmp_path, "bench-1", "10.0.0.1", ENTRY)
    assert {key: [(a.output, a.errors, a.status) for a in given] for key, given in found.answers.items()} == {
        "cat; echo {vm} 0; echo no >&2; exit 0": [("in bench-1 0\n", "no\n", 0)],
        "cat; echo {vm} 1; echo no >&2; exit 1": [("in bench-1 1\n", "no\n", 1)],
    }
    assert Recording.from_json(found.to_json()) == found


def test_each_host_answers_in_its_own_name_and_in_the_recorded_order(tmp_path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "key")
    key.write_public_key(tmp_path / "authorized_keys")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answers = {"look at {vm} {digest}": [Answer("", "", 1, 0.0), Answer("bench-1 is 127.0.0.9\n", "bench-10\n", 0, 0)]}
    hosts = Hosts(
        {"127.0.0.1": "bench-1", "127.0.0.2": "bench-2"},
        Recording("bench-1", "127.0.0.9", answers, ENTRY),
        str(tmp_path / "key"),
        str(tmp_path / "authorized_keys"),
        port,
    )
    lines = [line.split(" ", 1) for line in known_hosts(hosts).splitlines()]
    known = tmp_path / "known_hosts"
    known.write_text("".join(f"[{host}]:{port} {public}\n" for host, public in lines))

    async def ask(address: str, *commands: str) -> list[tuple[int | None, Any, Any]]:
        login = {"username": "root", "client_keys": [key], "known_hosts": str(known)}
        async with asyncssh.connect(address, port, **login) as client:
            done = [await client.run(command, input="given") for command in commands]
        return [(each.exit_status, each.stdout, each.stderr) for each in done]

    async def asked() -> list[list[tuple[int | None, Any, Any]]]:
        acceptor = await Server(Hosts.from_json(hosts.to_json()), None).serve()
        look = f"look at bench-2 {DIGEST}"
        asked = await asyncio.gather(
            ask("127.0.0.2", look, look, look, "else"), ask("127.0.0.1", f"look at bench-1 {DIGEST}")
        )
        acceptor.close()
        return list(asked)

    second = (0, "bench-2 is 127.0.0.2\n", "bench-10\n")
    unknown = (127, "", "no answer was recorded for bench-2: else\n")
    assert wait_for(asked()) == [[(1, "", ""), second, second, unknown], [(1, "", "")]]


def test_simulated_vms_have_addresses_of_their_own() -> None:
    vms = simulated_vms(1000)
    assert (vms[0].address, vms[999].name, vms[999].address) == ("10.78.0.1", "bench-1000", "10.78.3.232")


def test_requests_are_counted_from_the_servers_metrics() -> None:
    metrics = (
        "# HELP apiserver_request_total Counter\n"
        'apiserver_request_total{code="200",verb="GET"} 12\n'
        'apiserver_request_total{code="201",verb="POST"} 1e+03\n'
        'apiserver_request_terminations_total{code="200"} 7\n'
    )
    assert answered(metrics) == 1012
