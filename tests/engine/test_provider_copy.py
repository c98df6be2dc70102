"""Copies of files to other machines: what is sent where, what counts as a change, what is refused."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from lab.engine.providers.base import CheckError, Context, ProviderError
from lab.engine.providers.command import COPY, CommandProvider
from lab.engine.values import UNKNOWN, FileAsset, Secret, from_struct, to_struct

PROVIDER = CommandProvider({})
CONTEXT = Context(urn="urn:pulumi:dev::p::t::copy")


class Open(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        return False


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The connection to an ssh server whose files lie in `home`."""
    loop, key = asyncio.new_event_loop(), asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "home").mkdir()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        def files(channel: asyncssh.SSHServerChannel) -> asyncssh.SFTPServer:
            return asyncssh.SFTPServer(channel, chroot=str(tmp_path / "home"))

        return await asyncssh.listen("127.0.0.1", 0, server_factory=Open, server_host_keys=[key], sftp_factory=files)

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    public = key.export_public_key().decode().strip()
    yield {"host": "127.0.0.1", "port": server.get_port(), "hostKey": public, "dialErrorLimit": 0}

    async def close() -> None:
        server.close()
        await server.wait_closed()

    asyncio.run_coroutine_threadsafe(close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def inputs(connection: dict[str, Any], file: Path, target: str = "there") -> dict[str, Any]:
    """As the engine gives them to a provider: the asset as the SDK sends it, then checked."""
    wire = {"4dabf18193072939515e22adb298388d": "c44067f5952c0a294b673a41bacd8c17", "path": str(file)}
    struct = to_struct({"connection": connection, "source": wire, "remotePath": target})
    return PROVIDER.check(COPY, None, from_struct(struct), name="copy")


def test_a_file_is_copied_when_its_content_or_its_place_changes(machine: dict[str, Any], tmp_path: Path) -> None:
    file, there = tmp_path / "package", tmp_path / "home/there"
    file.write_bytes(b"\0one")
    given = inputs(machine, file)
    _, outputs = PROVIDER.create(COPY, given, CONTEXT)
    assert there.read_bytes() == b"\0one"
    assert outputs["connection"] == Secret(given["connection"])
    assert "stdout" not in outputs
    there.unlink()
    moved = file.rename(tmp_path / "elsewhere")
    same = inputs(machine, moved)
    assert not PROVIDER.diff(COPY, "id", given, outputs, same).changed, "the same content is the same file"
    PROVIDER.update(COPY, "id", given, outputs, inputs({**machine, "user": "other"}, moved), CONTEXT)
    assert not there.exists(), "another login needs no other copy"
    moved.write_bytes(b"two")
    changed = inputs(machine, moved)
    assert PROVIDER.diff(COPY, "id", given, outputs, changed).changed
    PROVIDER.update(COPY, "id", given, outputs, changed, CONTEXT)
    assert there.read_bytes() == b"two"
    PROVIDER.delete(COPY, "id", changed, outputs, CONTEXT)
    assert there.exists()


def test_a_preview_copies_nothing(machine: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "package").touch()
    PROVIDER.create(COPY, inputs(machine, tmp_path / "package"), Context(urn="", preview=True))
    assert not list((tmp_path / "home").iterdir())


def test_a_copy_that_fails_says_where_to_and_why(machine: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "package").touch()
    with pytest.raises(ProviderError, match=r"the copy to 127\.0\.0\.1 failed: .*\n?.*copy .*package to no/there"):
        PROVIDER.create(COPY, inputs(machine, tmp_path / "package", "no/there"), CONTEXT)


def test_what_a_copy_needs() -> None:
    with pytest.raises(CheckError) as error:
        PROVIDER.check(COPY, None, {"source": "text", "connection": {"host": "h"}, "create": "x"}, name="copy")
    assert {path for path, _ in error.value.problems} == {"source", "remotePath", "create"}
    good = {"source": FileAsset("p", "0"), "remotePath": "x", "connection": UNKNOWN}
    assert PROVIDER.check(COPY, None, good, name="copy") == good
