"""Plugins as the engine runs them: processes whose first line is their port, spoken to over gRPC."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import engine_pb2_grpc, provider_pb2, provider_pb2_grpc

LOCAL, REMOTE, COPY = "command:local:Command", "command:remote:Command", "command:remote:CopyToRemote"
SIGNATURE = "4dabf18193072939515e22adb298388d"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
only_ours = pytest.mark.skipif("PLUGINS" in os.environ, reason="of the lab's own plugin")


def secret(value: Any) -> dict[str, Any]:
    return {SIGNATURE: "1b47061264138c4ac30d75fd1eb44270", "value": value}


def asset(path: Path, digest: str) -> dict[str, Any]:
    return {SIGNATURE: "c44067f5952c0a294b673a41bacd8c17", "path": str(path), "hash": digest}


def urn(type_: str, name: str = "n") -> str:
    return f"urn:pulumi:dev::project::{type_}::{name}"


def struct(values: Mapping[str, Any]) -> Struct:
    result = Struct()
    result.update(values)
    return result


class Engine(engine_pb2_grpc.EngineServicer):
    """What plugins and programs report."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.server = grpc.server(futures.ThreadPoolExecutor(8))
        engine_pb2_grpc.add_EngineServicer_to_server(self, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def Log(self, request: Any, context: Any) -> Any:
        self.messages.append(request)
        return empty_pb2.Empty()

    def lines(self, name: str) -> list[str]:
        """The status lines of a resource."""
        found = [message for message in self.messages if message.urn.endswith(f"::{name}")]
        assert all(message.ephemeral for message in found)
        return [message.message for message in found]


class Plugin:
    """A running plugin."""

    def __init__(self, path: Path, engine: Engine, **environment: str) -> None:
        self.engine = engine
        variables = {**os.environ, **environment}
        self.process = subprocess.Popen(
            [path, engine.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
            env=variables,
        )
        assert self.process.stdout is not None
        address = f"127.0.0.1:{int(self.process.stdout.readline())}"
        self.channel = grpc.insecure_channel(address, [("grpc.absolute_max_metadata_size", 1 << 24)])

    def interrupt(self) -> int:
        """End it as the engine does, and return its exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        try:
            return self.process.wait(5)
        finally:
            self.close()

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.channel.close()
        self.process.stdin.close()
        self.process.stdout.close()


class Failed(Exception):
    """The provider's own error."""


class Provider(Plugin):
    """A resource provider, with plain values in place of messages."""

    def __init__(self, path: Path, engine: Engine, **environment: str) -> None:
        super().__init__(path, engine, **environment)
        self._stub = provider_pb2_grpc.ResourceProviderStub(self.channel)
        request = provider_pb2.ConfigureRequest(
            acceptSecrets=True, sends_old_inputs=True, sends_old_inputs_to_delete=True
        )
        self.call("Configure", request)

    def call(self, method: str, request: Any) -> Any:
        try:
            return getattr(self._stub, method)(request, timeout=30)
        except grpc.RpcError as error:
            raise Failed(error.details()) from None

    def check(self, type_: str, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        answer = self.call("Check", provider_pb2.CheckRequest(urn=urn(type_), news=struct(inputs)))
        return MessageToDict(answer.inputs), [(failure.property, failure.reason) for failure in answer.failures]

    def diff(self, type_: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
        request = provider_pb2.DiffRequest(
            id="i", urn=urn(type_), olds=struct(old), old_inputs=struct(old), news=struct(new)
        )
        answer = self.call("Diff", request)
        kinds = provider_pb2.PropertyDiff.Kind
        detailed = {path: kinds.Name(change.kind) for path, change in answer.detailedDiff.items()}
        assert (answer.changes == provider_pb2.DiffResponse.DIFF_SOME) == bool(detailed)
        assert bool(answer.replaces) == any("REPLACE" in kind for kind in detailed.values())
        return detailed

    def create(
        self, type_: str, inputs: Mapping[str, Any], name: str = "n", preview: bool = False, timeout: float = 0
    ) -> tuple[str, dict[str, Any]]:
        request = provider_pb2.CreateRequest(
            urn=urn(type_, name), properties=struct(inputs), preview=preview, timeout=timeout
        )
        answer = self.call("Create", request)
        return answer.id, MessageToDict(answer.properties)

    def update(
        self, type_: str, old: Mapping[str, Any], inputs: Mapping[str, Any], preview: bool = False
    ) -> dict[str, Any]:
        request = provider_pb2.UpdateRequest(
            id="i", urn=urn(type_), olds=struct(old), news=struct(inputs), preview=preview
        )
        return MessageToDict(self.call("Update", request).properties)

    def delete(self, type_: str, outputs: Mapping[str, Any]) -> None:
        self.call("Delete", provider_pb2.DeleteRequest(id="i", urn=urn(type_), properties=struct(outputs)))

    def invoke(self, token: str, args: Mapping[str, Any]) -> dict[str, Any]:
        answer = self.call("Invoke", provider_pb2.InvokeRequest(tok=token, args=struct(args)))
        assert not answer.failures, answer.failures
        return MessageToDict(getattr(answer, "return"))

    def cancel(self) -> None:
        self.call("Cancel", empty_pb2.Empty())
