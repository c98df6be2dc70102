"""Requests to a host of the mesh: this machine's tools in a VM's network, where its sidecar takes them, or outside."""

from __future__ import annotations

import dataclasses
import http.server
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.spec import MACHINE_ADDRESS

WRK_SCRIPT = """
function delay() return 10 end
function response(status, headers, body) io.write(status, " ", body); io.flush() end
"""


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    seconds: float
    body: str


@dataclasses.dataclass(frozen=True)
class Client:
    """Calls a host's address from within a VM's network; without one, from outside of the mesh and the cluster."""

    namespace: str | None
    host: str
    address: str

    @property
    def prefix(self) -> list[str]:
        return ["nsenter", f"--net=/run/netns/{self.namespace}"] if self.namespace else []

    def ask(
        self, count: int = 1, path: str = "/", *flags: str, headers: dict[str, str] | None = None, at_once: int = 1
    ) -> list[Answer]:
        """Send requests and return the answers; bodies are mixed up where there are several requests at once."""
        given = [flag for name, value in (headers or {}).items() for flag in ("-H", f"{name}: {value}")]
        url = f"http://{self.host}{path}{'&' if '?' in path else '?'}n=[1-{count}]"
        parallel = ["--parallel", "--parallel-max", str(at_once), "--parallel-immediate"] if at_once > 1 else []
        to = ["--resolve", f"{self.host}:80:{self.address}", "-w", "\t%{http_code} %{time_total}\n", url]
        argv = [*self.prefix, "curl", "-s", "--max-time", "20", *parallel, *given, *flags, *to]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
        found = re.findall(r"(.*?)\t(\d{3}) ([\d.]+)\n", done.stdout, re.DOTALL)
        answers = [Answer(int(status), float(seconds), body) for body, status, seconds in found]
        assert len(answers) == count, done
        return answers

    def versions(self, count: int = 1, path: str = "/", headers: dict[str, str] | None = None) -> Counter[str]:
        """Ask, and count which versions of hello answered."""
        return Counter(version_of(answer.body) for answer in self.ask(count, path, headers=headers))


def version_of(body: str) -> str:
    return body.partition("version: ")[2].partition(",")[0]


@dataclasses.dataclass
class Load:
    """What wrk has seen so far."""

    answers: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    """When each answer came (Unix time), and `<status> <body>`."""
    report: list[str] = dataclasses.field(default_factory=list)

    @property
    def failures(self) -> list[str]:
        """Answers other than 200, and what wrk says of connections that failed."""
        return [text for _, text in self.answers if not text.startswith("200 ")] + [
            line for line in self.report if "errors" in line or "Non-2xx" in line
        ]

    def versions(self, begin: float, end: float) -> Counter[str]:
        return Counter(version_of(text) for at, text in self.answers if begin <= at < end)


@contextmanager
def load(client: Client, folder: Path) -> Iterator[Load]:
    """Send requests from four connections for as long as the block takes; afterwards wrk has reported."""
    script = folder / "wrk.lua"
    script.write_text(WRK_SCRIPT)
    argv = [*client.prefix, "wrk", "-t1", "-c4", "-d600s", "--timeout", "5s", "-s", str(script)]
    argv += ["-H", f"Host: {client.host}", f"http://{client.address}/"]
    seen = Load()

    def read(lines: Iterable[str]) -> None:
        for line in lines:
            if line[:3].isdigit() and "Hello" in line:
                seen.answers.append((time.time(), line))
            else:
                seen.report.append(line)

    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as wrk:
        assert wrk.stdout is not None
        reader = threading.Thread(target=read, args=(wrk.stdout,))
        reader.start()
        try:
            yield seen
            wrk.send_signal(signal.SIGINT)
            wrk.wait(timeout=30)
        finally:
            wrk.kill()
            reader.join()
    assert any(line.strip().startswith("Requests/sec") for line in seen.report), seen.report


@dataclasses.dataclass
class Upstream:
    """A server outside of the mesh that hello's `/fetch` asks; what it answers, a test decides."""

    url: str
    answer: Callable[[str, str], int] = lambda path, caller: 200
    """Path and the calling VM's address -> status, after as long as the function takes."""
    calls: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    """Path and caller of each request."""

    def through(self, name: str) -> str:
        """The path of hello's that leads to a path of this server's."""
        return f"/fetch?u={self.url}/{name}"

    def callers(self, name: str) -> list[str]:
        return [caller for path, caller in self.calls if path.startswith(f"/{name}")]


@contextmanager
def upstream() -> Iterator[Upstream]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.calls.append((self.path, self.client_address[0]))
            status = server.answer(self.path, self.client_address[0])
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    listener = http.server.ThreadingHTTPServer((MACHINE_ADDRESS, 0), Handler)
    listener.daemon_threads = True
    server = Upstream(f"http://{MACHINE_ADDRESS}:{listener.server_address[1]}")
    thread = threading.Thread(target=listener.serve_forever, args=(0.1,))
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()
