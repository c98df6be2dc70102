"""The lab's package mirror: an HTTP server for one folder, and beside it "no such name" to every DNS question.

Runs as a process in its own network namespace: `python -m lab.mirror FOLDER`. A quick negative answer spares the VMs
the resolver's timeouts; names of the mesh are resolved by the sidecar.
"""

from __future__ import annotations

import http.server
import io
import os
import re
import shutil
import socketserver
import sys
import threading
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

HTTP_PORT = 80
DNS_PORT = 53
_NXDOMAIN = 3
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return the first and one past the last byte that a Range header asks for.

    None means: send the whole file (no or an unsupported header).

    Raises:
        ValueError: The range lies outside the file.
    """
    match = _RANGE.fullmatch(header.strip())
    if not match or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    start, end = (int(first), int(last) + 1 if last else size) if first else (max(0, size - int(last)), size)
    if start >= size or end <= start:
        raise ValueError(header)
    return start, min(end, size)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files with keep-alive, byte ranges and conditional requests."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    _part: tuple[int, int] | None = None

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """Answer with the headers and return what to send: the base class does whole files, this adds ranges."""
        self._part = None
        path = Path(self.translate_path(self.path))
        header = self.headers.get("Range", "")
        if not header or not path.is_file():
            return super().send_head()
        size = path.stat().st_size
        try:
            self._part = parse_range(header, size)
        except ValueError:
            self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        if self._part is None:
            return super().send_head()
        start, end = self._part
        self.send_response(HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        return path.open("rb")

    def do_GET(self) -> None:
        """Answer, and let the kernel copy files to the socket."""
        source = self.send_head()
        if source is None:
            return
        with source:
            self.wfile.flush()
            if isinstance(source, io.BytesIO):  # a listing
                shutil.copyfileobj(source, self.wfile)
                return
            start, end = self._part or (0, os.fstat(source.fileno()).st_size)
            self.connection.sendfile(source, start, end - start)


class MirrorServer(http.server.ThreadingHTTPServer):
    """A thread for each connection, and room for a whole fleet to connect at once."""

    request_queue_size = 256
    daemon_threads = True


def no_such_name(query: bytes) -> bytes:
    """Return the DNS answer NXDOMAIN to a query; nothing for what is no query."""
    if len(query) < 12 or query[2] & 0x80:
        return b""
    flags = bytes([0x80 | (query[2] & 0x79), 0x80 | _NXDOMAIN])
    end = 12
    while end < len(query) and query[end]:
        end += query[end] + 1
    question = query[12 : end + 5]
    return query[:2] + flags + query[4:6] + bytes(6) + question


class DnsHandler(socketserver.BaseRequestHandler):
    """Answers one DNS packet."""

    def handle(self) -> None:
        """Say that there is no such name."""
        data, socket = self.request
        answer = no_such_name(data)
        if answer:
            socket.sendto(answer, self.client_address)


def main(folder: str) -> None:
    """Serve for ever."""
    dns = socketserver.ThreadingUDPServer(("", DNS_PORT), DnsHandler)
    threading.Thread(target=dns.serve_forever, daemon=True).start()
    MirrorServer(("", HTTP_PORT), partial(Handler, directory=folder)).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
