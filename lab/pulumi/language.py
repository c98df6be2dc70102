"""The language host: it starts the user's Python program, in this interpreter, when the engine wants it run."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

_PROGRAM = str(Path(__file__).with_name("program.py"))


class Language(language_pb2_grpc.LanguageRuntimeServicer):
    """Answers what the engine asks of a language host."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._ahead: asyncio.Task[Process] | None = asyncio.create_task(_start())
        self._running: Process | None = None

    async def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo()

    async def GetRequiredPackages(self, request: Any, context: Any) -> Any:
        """Require nothing ahead: plugins are found on PATH when a resource needs them."""
        return language_pb2.GetRequiredPackagesResponse()

    async def Cancel(self, request: Any, context: Any) -> Any:
        if self._running is not None and self._running.returncode is None:
            self._running.terminate()  # an interrupt would have it complain
        return empty_pb2.Empty()

    async def Run(self, request: Any, context: Any) -> Any:
        process = self._running = await (self._ahead or _start())
        self._ahead = None
        settings = {key: getattr(request, key) for key in ("project", "stack", "parallel", "organization")} | {
            "monitor": request.monitor_address,
            "engine": self._engine,
            "dry_run": request.dryRun,
            "root_directory": request.info.root_directory,
        }
        given = {
            "folder": request.pwd,
            "argv": [request.info.entry_point, *request.args],
            "settings": settings,
            "config": dict(request.config),
            "secret_keys": list(request.configSecretKeys),
        }
        await process.communicate(json.dumps(given).encode())
        if process.returncode in (0, 32):  # 32: the user has seen what went wrong
            return language_pb2.RunResponse(bail=process.returncode == 32)
        return language_pb2.RunResponse(error=f"program exited with non-zero exit code: {process.returncode}")


async def _start() -> Process:
    """Start a process that waits for a program to run.

    It dies with this one, for a program without an engine may wait for ever; an interrupt, it would complain of.
    """
    bound = ("setpriv", "--pdeathsig", "KILL", sys.executable, _PROGRAM)
    return await create_subprocess_exec(*bound, stdin=PIPE, process_group=0)


async def register(server: grpc.aio.Server, engine: str) -> None:
    """Serve the engine at an address."""
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(Language(engine), server)
