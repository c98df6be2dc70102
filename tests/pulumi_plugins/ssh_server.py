"""A machine to log in to: an ssh server on the loopback interface that runs commands and keeps files, and an agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socketserver
import struct
import threading
from asyncio.subprocess import PIPE
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh


class Server(asyncssh.SSHServer):
    """Runs in a thread of its own. Its users have the one key; its files lie in a folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.host_key, self.user_key = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
        self.connections = 0
        self._opened: list[asyncssh.SSHServerConnection] = []
        self.forwarded: list[tuple[str, int]] = []
        self.environments: list[dict[str, str]] = []
        self.port = 0
        self._sessions: set[asyncio.Task[None]] = set()

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connections += 1
        self._opened.append(conn)

    def connection_requested(self, dest_host: str, dest_port: int, *_: Any) -> bool:
        self.forwarded.append((dest_host, dest_port))
        return True

    def connection(self, **more: Any) -> dict[str, Any]:
        """The inputs of a connection to it, as the provider's check leaves them."""
        given = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": "root",
            "privateKey": self.user_key.export_private_key().decode(),
            "hostKey": self.host_key.export_public_key().decode(),
            "dialErrorLimit": 0,
            "perDialTimeout": 5,
            **more,
        }
        return {key: value for key, value in given.items() if value is not None}

    @contextlib.contextmanager
    def running(self) -> Iterator[Server]:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        acceptor = asyncio.run_coroutine_threadsafe(self._listen(), loop).result(10)
        self.port = acceptor.get_port()
        yield self
        asyncio.run_coroutine_threadsafe(self._close(acceptor), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    async def _listen(self) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: self,
            server_host_keys=[self.host_key],
            authorized_client_keys=asyncssh.import_authorized_keys(self.user_key.export_public_key().decode()),
            process_factory=self._handle,
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(self.home)),
            encoding=None,
        )

    async def _close(self, acceptor: asyncssh.SSHAcceptor) -> None:
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
        for connection in self._opened:  # the published provider closes none
            connection.abort()
        acceptor.close()
        await asyncio.gather(*(connection.wait_closed() for connection in self._opened), return_exceptions=True)
        await asyncio.sleep(0.05)

    async def _handle(self, process: asyncssh.SSHServerProcess[bytes]) -> None:
        session = asyncio.current_task()
        assert session is not None
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)
        self.environments.append(dict(process.env))
        assert process.command is not None
        if process.command == "vanish":
            process.channel.get_connection().abort()
            return
        arguments = ["/bin/sh", "-c", process.command]
        shell = await asyncio.create_subprocess_exec(
            *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, start_new_session=True
        )
        assert shell.stdin and shell.stdout and shell.stderr

        async def feed() -> None:
            with contextlib.suppress(OSError):
                while data := await process.stdin.read(65536):
                    shell.stdin.write(data)
                    await shell.stdin.drain()
            shell.stdin.close()

        async def pump(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()

        feeding = asyncio.create_task(feed())
        try:
            with contextlib.suppress(OSError):  # the client gave up
                await asyncio.gather(pump(shell.stdout, process.stdout), pump(shell.stderr, process.stderr))
            status = await shell.wait()
        except asyncio.CancelledError:  # the tests are over, this command is one that hangs
            os.killpg(shell.pid, signal.SIGKILL)
            await asyncio.gather(shell.communicate(), return_exceptions=True)
            raise
        finally:
            feeding.cancel()
        if status < 0:
            process.exit_with_signal("TERM")
        else:
            process.exit(status)


@contextlib.contextmanager
def agent(path: Path, key: asyncssh.SSHKey) -> Iterator[None]:
    """An ssh agent that holds a key (draft-ietf-sshm-ssh-agent)."""

    def text(data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + data

    class Answers(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.read(4):
                request = self.rfile.read(struct.unpack(">I", head)[0])
                if request[0] == 11:  # which keys?
                    answer = b"\x0c\0\0\0\x01" + text(key.public_data) + text(b"a comment")
                else:  # sign this
                    begin = 5 + len(key.public_data)
                    (length,) = struct.unpack_from(">I", request, begin)
                    answer = b"\x0e" + text(key.sign(request[begin + 4 : begin + 4 + length], b"ssh-ed25519"))
                self.wfile.write(text(answer))

    with socketserver.ThreadingUnixStreamServer(str(path), Answers) as listener:
        listener.daemon_threads = True
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        yield
        listener.shutdown()
        thread.join()
