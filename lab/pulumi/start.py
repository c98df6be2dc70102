"""A plugin's life: the engine starts it with its own address and reads the plugin's port from its first line."""

import asyncio
import importlib.util
import logging
import os
import signal
import sys
from contextlib import suppress
from types import ModuleType

import grpc

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


async def _serve(plugin: ModuleType) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, ended.set)
    loop.add_reader(sys.stdin.fileno(), ended.set)  # the engine writes nothing: its end closes as it dies, however
    server = grpc.aio.server(options=UNLIMITED)
    await plugin.register(server, sys.argv[-1])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    with suppress(BrokenPipeError):  # it may have died already
        print(port, flush=True)
    await ended.wait()
    os._exit(0)  # what the interpreter would tidy up takes time, and the engine waits for it


def main(plugin: str) -> None:
    """Serve until the engine interrupts this process or is gone."""
    for package in ("pulumi", "pulumi.runtime"):  # the protocol's modules need no SDK, whose import takes 0.3 s
        spec = importlib.util.find_spec(package)
        assert spec is not None and spec.submodule_search_locations is not None
        sys.modules[package] = ModuleType(package)
        sys.modules[package].__path__ = list(spec.submodule_search_locations)
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)  # what fails, the engine tells
    asyncio.run(_serve(importlib.import_module(f"lab.pulumi.{plugin}")))
