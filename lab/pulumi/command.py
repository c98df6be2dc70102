"""The `command` provider: shell commands here and, over ssh, on other machines, run as a resource comes and goes.

It behaves as pulumi-command 1.2.1 does, for what this project uses of it. Values stay as they are on the wire, so that
an output is secret where its input was.
"""

import asyncio
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import empty_pb2
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, plugin_pb2, provider_pb2, provider_pb2_grpc

from lab.pulumi.shell import CommandError, Job, local
from lab.pulumi.start import UNLIMITED

Values = Mapping[str, Any]

_SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
_SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"
_ASSETS: Final = ("c44067f5952c0a294b673a41bacd8c17", "0def7320c3a5731c473e5ecbe6d01bc7")
_UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_LOCAL, _REMOTE, _COPY = "command:local:Command", "command:remote:Command", "command:remote:CopyToRemote"
_TYPES: Final = (_LOCAL, _REMOTE, _COPY, "command:local:run")
_DEFAULTS: Final = {"user": "root", "port": 22, "dialErrorLimit": 10, "perDialTimeout": 15}
_SECRETS: Final = ("password", "privateKey", "privateKeyPassword")
_STREAMS: Final[Sequence[str]] = ("stdout", "stderr")
_KIND: Final = provider_pb2.PropertyDiff.Kind


class Command(provider_pb2_grpc.ResourceProviderServicer):
    """Commands and copies, hundreds at once. It takes no configuration."""

    def __init__(self, engine: engine_pb2_grpc.EngineStub) -> None:
        self._engine = engine
        self._stops: set[asyncio.Future[str]] = set()
        self._cancelled = False

    async def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version="1.2.1")

    async def Configure(self, request: Any, context: Any) -> Any:
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    async def Cancel(self, request: Any, context: Any) -> Any:
        """End what runs here and what waits to connect; a command elsewhere runs to its end."""
        self._cancelled = True
        for stop in self._stops:
            _end(stop)
        return empty_pb2.Empty()

    async def Check(self, request: Any, context: Any) -> Any:
        """Fill in the connection's defaults, mark what is secret, and refuse what cannot be done."""
        inputs = MessageToDict(request.news)
        failures = _failures(request, inputs)
        if "connection" in inputs:
            inputs["connection"] = _secret(_connection(inputs["connection"]))
        return provider_pb2.CheckResponse(inputs=ParseDict(inputs, Struct()), failures=failures)

    async def Diff(self, request: Any, context: Any) -> Any:
        """Compare the inputs. A change within `triggers` is an update here: it is the SDK that has it replace."""
        found = _differences(MessageToDict(request.old_inputs), MessageToDict(request.news))
        kinds = {path: _KIND.Value(kind + "_REPLACE" * (path == "triggers")) for path, kind in found.items()}
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if found else provider_pb2.DiffResponse.DIFF_NONE,
            replaces=["triggers"] if "triggers" in found else [],
            diffs=sorted({re.split(r"[.\[]", path)[0] for path in found}),
            detailedDiff={path: provider_pb2.PropertyDiff(kind=kind) for path, kind in kinds.items()},
            hasDetailedDiff=True,
        )

    async def Create(self, request: Any, context: Any) -> Any:
        inputs, copies = MessageToDict(request.properties), _type(request) == _COPY
        outputs = {} if copies else dict.fromkeys(_STREAMS, _UNKNOWN if request.preview else "")
        if not request.preview:
            outputs |= await self._run(request, context, inputs, {}, "create")
        identity = ("" if copies else request.urn.split("::", 3)[3]) + secrets.token_hex(4)
        return provider_pb2.CreateResponse(id=identity, properties=ParseDict({**inputs, **outputs}, Struct()))

    async def Update(self, request: Any, context: Any) -> Any:
        """Run `update`, or `create` where there is no `update`; copy where the file or its place is another."""
        old, inputs = MessageToDict(request.olds), MessageToDict(request.news)
        outputs = {key: old[key] for key in _STREAMS if key in old}
        if not request.preview:
            outputs |= await self._run(request, context, inputs, old, "update", "create")
        elif _reveal([*inputs.values()]).count(_UNKNOWN) or any(
            value != inputs.get(key) for key, value in old.items() if key not in _STREAMS
        ):  # as published: an input that was not there before does not count
            outputs = dict.fromkeys(outputs, _UNKNOWN)
        return provider_pb2.UpdateResponse(properties=ParseDict({**inputs, **outputs}, Struct()))

    async def Delete(self, request: Any, context: Any) -> Any:
        """Run `delete`, over the connection that was stored with the resource; a copy stays."""
        old = MessageToDict(request.properties)
        await self._run(request, context, old, old, "delete")
        return empty_pb2.Empty()

    async def Read(self, request: Any, context: Any) -> Any:
        """Return what is known: nobody can tell what a command has left behind."""
        return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)

    async def Invoke(self, request: Any, context: Any) -> Any:
        inputs = MessageToDict(request.args)
        if failures := _failures(request, inputs):
            return provider_pb2.InvokeResponse(failures=failures)
        outputs = await self._run(request, context, inputs, {}, "command")
        return provider_pb2.InvokeResponse(**{"return": ParseDict({**inputs, **outputs}, Struct())})

    async def _run(self, request: Any, context: Any, inputs: Values, old: Values, *steps: str) -> dict[str, str]:
        """Run the first of the steps that there is, or copy; return what it printed."""
        type_, urn, timeout = _type(request), getattr(request, "urn", ""), int(getattr(request, "timeout", 0))

        async def report(line: str) -> None:
            await self._engine.Log(
                engine_pb2.LogRequest(severity=engine_pb2.INFO, urn=urn, message=line, ephemeral=True)
            )

        loop = asyncio.get_running_loop()
        job = Job(stop=loop.create_future(), report=report)
        self._stops.add(job.stop)
        if self._cancelled:
            _end(job.stop)
        timer = loop.call_later(timeout or 1e9, _end, job.stop, "context deadline exceeded")
        try:
            return await _carry_out(job, type_, _reveal(inputs), _reveal(old), steps)
        except CommandError as error:
            await context.abort(grpc.StatusCode.UNKNOWN, str(error))
            raise
        finally:
            self._stops.discard(job.stop)
            timer.cancel()


async def _carry_out(job: Job, type_: str, inputs: Values, old: Values, steps: Iterable[str]) -> dict[str, str]:
    if type_ in (_COPY, _REMOTE):
        from lab.pulumi import ssh  # takes 0.4 s, and most runs need none
    if type_ == _COPY:
        source, target = inputs["source"], inputs["remotePath"]
        if _differences([old.get("source"), old.get("remotePath")], [source, target]):
            await ssh.copy(inputs["connection"], source.get("text") or Path(source["path"]), target, job)
        return {}
    command = next((inputs[step] for step in steps if step in inputs), None)
    if command is None:
        return {}
    environment = dict(inputs.get("environment", {}))
    if inputs.get("addPreviousOutputInEnv", True):
        environment |= {f"PULUMI_COMMAND_{key.upper()}": old[key] for key in _STREAMS if old.get(key)}
    job = replace(
        job,
        command=command,
        stdin=inputs.get("stdin", ""),
        environment=environment,
        logging=inputs.get("logging", job.logging),
        interpreter=inputs.get("interpreter") or job.interpreter,
        folder=inputs.get("dir"),
    )
    return await (ssh.remote(inputs["connection"], job) if type_ == _REMOTE else local(job))


def _end(stop: asyncio.Future[str], reason: str = "context canceled") -> None:
    if not stop.done():
        stop.set_result(reason)


def _type(request: Any) -> str:
    return str(request.urn.split("::")[2].rpartition("$")[2] if hasattr(request, "urn") else request.tok)


def _failures(request: Any, inputs: Values) -> list[Any]:
    found = [
        (key, "is not supported by the lab's command plugin") for key in ("assetPaths", "archivePaths") if key in inputs
    ]
    if _type(request) not in _TYPES:
        found.append(("type", f"{_type(request)} is not supported by the lab's command plugin"))
    if _type(request) == _COPY and _signature(_reveal(inputs.get("source"))) not in _ASSETS:
        found.append(("asset", "either asset or archive must be set"))
    return [provider_pb2.CheckFailure(property=key, reason=reason) for key, reason in found]


def _connection(given: Any) -> Any:
    """Return a connection, or a proxy's, with its defaults, and its secrets marked as such."""
    if _signature(given) == _SECRET:
        return {**given, "value": _connection(given["value"])}
    if not isinstance(given, Mapping):
        return given
    proxy = {"proxy": _connection(given["proxy"])} if "proxy" in given else {}
    return {**_DEFAULTS, **given, **proxy, **{key: _secret(given[key]) for key in _SECRETS if key in given}}


def _signature(value: Any) -> Any:
    """Return what kind of special value this is, None if it is none."""
    return value.get(_SIGNATURE) if isinstance(value, Mapping) else None


def _secret(value: Any) -> Any:
    return value if _signature(value) == _SECRET else {_SIGNATURE: _SECRET, "value": value}


def _reveal(value: Any) -> Any:
    """Return a value without the marks of secrets, at any depth."""
    if _signature(value) == _SECRET:
        return _reveal(value["value"])
    if isinstance(value, Mapping):
        return {key: _reveal(item) for key, item in value.items() if item is not None}
    return [_reveal(item) for item in value] if isinstance(value, list) else value


def _differences(old: Any, new: Any, path: str = "") -> dict[str, str]:
    """Return what differs as ADD, DELETE or UPDATE by property path; a secret is one value, an asset is its content."""
    if isinstance(old, list) and isinstance(new, list):
        old, new, step = dict(enumerate(old)), dict(enumerate(new)), "[{}]"
    elif isinstance(old, Mapping) and isinstance(new, Mapping) and not (_signature(old) or _signature(new)):
        step = ".{}" if path else "{}"
    else:
        old, new = (value["hash"] if _signature(value) in _ASSETS else value for value in (old, new))
        kind = "ADD" if old is None else "DELETE" if new is None else "UPDATE"
        return {} if old == new and isinstance(old, bool) == isinstance(new, bool) else {path: kind}
    found: dict[str, str] = {}
    for key in old | new:
        found |= _differences(old.get(key), new.get(key), path + step.format(key))
    return found


async def register(server: grpc.aio.Server, engine: str) -> None:
    """Serve the engine at an address."""
    stub = engine_pb2_grpc.EngineStub(grpc.aio.insecure_channel(engine, options=UNLIMITED))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Command(stub), server)
