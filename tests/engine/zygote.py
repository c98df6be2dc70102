"""A process that has the Pulumi SDK and the engine imported, and forks for each run: importing takes a second."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from fake_provider import FakeProvider

from lab.engine import program
from lab.engine.display import Display
from lab.engine.engine import Engine


class ForkedProgram:
    """Stands in for ProgramProcess."""

    def __init__(self, address: str) -> None:
        self._address = address

    def run(self, settings: dict[str, Any], line: Any) -> int:
        connection, reader = request(self._address, "program", settings)
        with connection, os.fdopen(reader, errors="replace") as output:
            self._pid = int(connection.recv(64))
            for text in output:
                line(text.rstrip("\n"))
            return int(connection.recv(64))

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)


def request(address: str, kind: str, arguments: dict[str, Any]) -> tuple[socket.socket, int]:
    """Have something run in a fork; return the connection (which tells pid, then exit code) and its output."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    reader, writer = os.pipe()
    socket.send_fds(connection, [b"x"], [writer])
    os.close(writer)
    connection.sendall((json.dumps([kind, arguments]) + "\n").encode())
    return connection, reader


def run_engine(arguments: dict[str, Any]) -> int:
    folder = Path(arguments["world"])
    engine = Engine(
        Path(arguments["directory"]),
        "dev",
        packages={"fake": functools.partial(FakeProvider, folder)},
        launch=lambda: ForkedProgram(arguments["address"]),
    )
    display = Display()
    display.live = True
    return 0 if getattr(engine, arguments["command"])(display) else 1


def serve(address: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    while True:
        connection, _ = listener.accept()
        _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
        with connection.makefile("r") as file:
            kind, arguments = json.loads(file.readline())
        pid = os.fork()
        if pid == 0:
            listener.close()
            os.setsid()
            program.end_with_engine()
            os.dup2(descriptors[0], 1)
            os.dup2(descriptors[0], 2)
            code = 99
            try:
                code = (program.run if kind == "program" else run_engine)(arguments)
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(descriptors[0])
        connection.sendall(str(pid).ljust(64).encode())
        threading.Thread(target=reap, args=(connection, pid), daemon=True).start()


def reap(connection: socket.socket, pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    with connection, contextlib.suppress(BrokenPipeError):  # whoever killed it does not ask
        connection.sendall(str(os.waitstatus_to_exitcode(status)).ljust(64).encode())


if __name__ == "__main__":
    serve(sys.argv[1])
