"""The language host: it starts the user's Python program, in this interpreter, when the engine wants it run."""

import asyncio
import json
import platform
import signal
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

_PROGRAM = str(Path(__file__).with_name("program.py"))
_SHOWN = 32
"""The program's exit code when the user has seen what went wrong."""


class Language(language_pb2_grpc.LanguageRuntimeServicer):  # type: ignore[misc]
    """Answers what the engine asks of a language host."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._ready = asyncio.ensure_future(_start())
        self._running: Process | None = None

    async def Handshake(self, request: Any, context: Any) -> Any:
        """Agree to work together."""
        return language_pb2.LanguageHandshakeResponse()

    async def GetPluginInfo(self, request: Any, context: Any) -> Any:
        """Name no version: it is that of the checkout."""
        return plugin_pb2.PluginInfo()

    async def GetRequiredPackages(self, request: Any, context: Any) -> Any:
        """Require nothing ahead: plugins are found on PATH when a resource needs them."""
        return language_pb2.GetRequiredPackagesResponse()

    async def About(self, request: Any, context: Any) -> Any:
        """Name the interpreter."""
        return language_pb2.AboutResponse(executable=sys.executable, version=platform.python_version())

    async def Cancel(self, request: Any, context: Any) -> Any:
        """Interrupt the program."""
        if self._running is not None and self._running.returncode is None:
            self._running.send_signal(signal.SIGINT)
        return empty_pb2.Empty()

    async def Run(self, request: Any, context: Any) -> Any:
        """Run the program to its end."""
        process = self._running = await self._ready
        settings = {
            "monitor": request.monitor_address,
            "engine": self._engine,
            "project": request.project,
            "stack": request.stack,
            "parallel": request.parallel,
            "dry_run": request.dryRun,
            "organization": request.organization,
            "root_directory": request.info.root_directory,
        }
        given = {
            "pwd": request.pwd,
            "program": request.info.entry_point,
            "args": list(request.args),
            "settings": settings,
            "config": dict(request.config),
            "secret_keys": list(request.configSecretKeys),
        }
        await process.communicate(json.dumps(given).encode())
        self._ready = asyncio.ensure_future(_start())
        if process.returncode in (0, _SHOWN):
            return language_pb2.RunResponse(bail=process.returncode == _SHOWN)
        return language_pb2.RunResponse(error=f"program exited with non-zero exit code: {process.returncode}")


async def _start() -> Process:
    return await create_subprocess_exec(sys.executable, _PROGRAM, stdin=PIPE)


async def register(server: grpc.aio.Server, engine: str) -> None:
    """Serve the engine at an address."""
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(Language(engine), server)
