"""A small HTTPS server that answers as the Kubernetes API does, for tests of the client."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from tls import Authority

TOKEN = "the-token"


@dataclass(frozen=True)
class Answer:
    """What the server answers."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    after: float = 0


@dataclass(frozen=True)
class Frames:
    """What a stream brings: channel 1 is standard output, 2 standard error, 3 how it ended."""

    sent: Sequence[tuple[int, str]]
    after: float = 0


def refusal(status: int, reason: str, message: str, **headers: str) -> Answer:
    return Answer({"kind": "Status", "status": "Failure", "reason": reason, "message": message}, status, headers)


@dataclass
class Seen:
    """A request as the server got it."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    subject: str
    connection: tuple[str, int]


@dataclass
class Api:
    """A running server."""

    port: int
    authority: Authority
    answers: dict[str, Callable[[], Any]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    @property
    def server(self) -> str:
        return f"https://localhost:{self.port}"

    def answer(self, path: str, body: Any, status: int = 200) -> None:
        self.answers[path] = lambda: Answer(body, status)

    def kubeconfig(
        self, user: Mapping[str, Any], cluster: Mapping[str, Any] | None = None, name: str = "kubeconfig"
    ) -> str:
        """Write a kubeconfig with the contexts `lab` and `other`, and return its path."""
        path = self.authority.folder / name
        trusts = {"server": self.server, "certificate-authority": "ca.crt"}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "clusters": [{"name": "one", "cluster": {**trusts, **(cluster or {})}}],
            "users": [{"name": "me", "user": dict(user)}],
            "contexts": [{"name": name, "context": {"cluster": "one", "user": "me"}} for name in ("lab", "other")],
        }
        path.write_text(yaml.safe_dump(content))
        return str(path)


@contextmanager
def serving(folder: Path) -> Iterator[Api]:
    """An API server with a certificate for `localhost`; it asks for client certificates, and needs none."""
    authority = Authority(folder)
    certificate, key = authority.issue("server", "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority.certificate)
    context.verify_mode = ssl.CERT_OPTIONAL
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler())
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    api = Api(server.server_address[1], authority)
    server.api = api  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler() -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (OSError, ssl.SSLError):
                self.close_connection = True

        def do_GET(self) -> None:
            api: Api = self.server.api  # type: ignore[attr-defined]
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length).decode()
            peer = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
            subject = dict(part[0] for part in peer["subject"])["commonName"] if peer else ""
            headers = {key.lower(): value for key, value in self.headers.items()}
            body = json.loads(text) if text else None
            api.seen.append(Seen(self.command, self.path, headers, body, subject, self.client_address))
            made = api.answers.get(self.path)
            if made and "sec-websocket-key" in headers and isinstance(frames := made(), Frames):
                self._stream(headers, frames)
                return
            answer = made() if made else refusal(404, "NotFound", "the server could not find the requested resource")
            time.sleep(answer.after)
            data = answer.body.encode() if isinstance(answer.body, str) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for key, value in {**answer.headers, "Content-Length": str(len(data))}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, headers: Mapping[str, str], frames: Frames) -> None:
            """Answer as the API does to `exec`: the first byte of each frame says what it belongs to."""
            magic = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode())
            self.send_header("Sec-WebSocket-Protocol", "v4.channel.k8s.io")
            self.end_headers()
            time.sleep(frames.after)
            for channel, text in frames.sent:
                data = bytes([channel]) + text.encode()
                length = bytes([len(data)]) if len(data) < 126 else bytes([126]) + len(data).to_bytes(2, "big")
                self.wfile.write(b"\x82" + length + data)
            self.wfile.write(b"\x88\x00")
            self.close_connection = True

        do_POST = do_PATCH = do_DELETE = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
