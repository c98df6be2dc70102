"""The package mirror, over real connections."""

import http.client
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from lab.mirror import Handler, MirrorServer, no_such_name, parse_range

CONTENT = bytes(range(256)) * 4000


class Quiet(Handler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("mirror")
    (folder / "real").write_bytes(CONTENT)
    (folder / "package.deb").symlink_to(folder / "real")
    server = MirrorServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def ask(connection: http.client.HTTPConnection, path: str, **headers: str) -> tuple[int, bytes, str | None]:
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.getheader("Content-Range")


def test_one_connection_serves_whole_files_parts_and_errors(mirror: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", mirror, timeout=5)
    size = len(CONTENT)
    assert ask(connection, "/package.deb") == (200, CONTENT, None)
    assert ask(connection, "/package.deb", Range="bytes=10-19") == (206, CONTENT[10:20], f"bytes 10-19/{size}")
    assert ask(connection, "/package.deb", Range=f"bytes={size}-") == (416, b"", f"bytes */{size}")
    assert ask(connection, "/package.deb") == (200, CONTENT, None)
    assert ask(connection, "/absent")[0] == 404
    assert ask(connection, "/package.deb", Range="bytes=-3")[1] == CONTENT[-3:]
    connection.close()


def test_fifty_downloads_at_once(mirror: int) -> None:
    sizes: list[int] = []

    def download() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", mirror, timeout=10)
        sizes.append(len(ask(connection, "/package.deb")[1]))
        connection.close()

    threads = [threading.Thread(target=download) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [len(CONTENT)] * 50


@pytest.mark.parametrize(
    ("header", "part"),
    [("bytes=0-0", (0, 1)), ("bytes=5-", (5, 100)), ("bytes=-10", (90, 100)), ("bytes=-500", (0, 100)),
     ("bytes=90-500", (90, 100)), ("bytes=-", None), ("lines=1-2", None), ("bytes=1-2,5-6", None)],
)  # fmt: skip
def test_ranges(header: str, part: tuple[int, int] | None) -> None:
    assert parse_range(header, 100) == part


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=7-3", "bytes=-0"])
def test_a_range_outside_the_file_is_an_error(header: str) -> None:
    with pytest.raises(ValueError, match=header):
        parse_range(header, 100)


QUESTION = b"\x03foo\x03bar\x00\x00\x01\x00\x01"


def test_every_name_is_answered_with_no_such_name() -> None:
    query = (
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01" + QUESTION + b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"
    )
    assert no_such_name(query) == b"\x12\x34\x81\x83\x00\x01\x00\x00\x00\x00\x00\x00" + QUESTION


@pytest.mark.parametrize("packet", [b"", b"short", b"\x12\x34\x81\x83" + bytes(8)])
def test_what_is_no_query_gets_no_answer(packet: bytes) -> None:
    assert no_such_name(packet) == b""
