"""The `command` provider: shell commands here and, over ssh, on other machines, run as a resource comes and goes.

It behaves as pulumi-command 1.2.1 does, for what this project uses of it. Values stay as they are on the wire, so that
an output is secret where its input was.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import empty_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, plugin_pb2, provider_pb2, provider_pb2_grpc

from lab.pulumi.shell import CommandError, Job, Step, local
from lab.pulumi.start import UNLIMITED

Values = Mapping[str, Any]

_SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
_SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"
_ASSETS: Final = ("c44067f5952c0a294b673a41bacd8c17", "0def7320c3a5731c473e5ecbe6d01bc7")
_UNKNOWN: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_LOCAL, _REMOTE, _COPY = "command:local:Command", "command:remote:Command", "command:remote:CopyToRemote"
_RUN: Final = "command:local:run"
_BOTH: Final = {"stdin", "environment", "logging", "addPreviousOutputInEnv"}
_STEPS: Final = {"create", "update", "delete", "triggers"}
_INPUTS: Final[Mapping[str, tuple[str, list[str], set[str]]]] = {
    _LOCAL: ("local.CommandInputs", [], _BOTH | _STEPS | {"interpreter", "dir"}),
    _REMOTE: ("remote.CommandInputs", ["connection"], _BOTH | _STEPS),
    _COPY: ("remote.CopyToRemoteInputs", ["connection", "source", "remotePath"], {"triggers"}),
    _RUN: ("local.RunInputs", ["command"], _BOTH | {"interpreter", "dir"}),
}
"""By type: the published provider's name for its inputs, those that it requires, and the others."""
_DEFAULTS: Final = {"user": "root", "port": 22, "dialErrorLimit": 10, "perDialTimeout": 15}
_SECRETS: Final = ("password", "privateKey", "privateKeyPassword")
_STREAMS: Final[Sequence[str]] = ("stdout", "stderr")
_LOGGED: Final = {"none": (False, False), "stdout": (True, False), "stderr": (False, True)}
_MISSING: Final = object()


class Command(provider_pb2_grpc.ResourceProviderServicer):  # type: ignore[misc]
    """Commands and copies, hundreds at once. It takes no configuration."""

    def __init__(self, engine: engine_pb2_grpc.EngineStub) -> None:
        self._engine = engine
        self._cancelled: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def GetPluginInfo(self, request: Any, context: Any) -> Any:
        """Tell whose behaviour this is."""
        return plugin_pb2.PluginInfo(version="1.2.1")

    async def CheckConfig(self, request: Any, context: Any) -> Any:
        """Accept the configuration, of which there is none."""
        return provider_pb2.CheckResponse(inputs=request.news)

    async def Configure(self, request: Any, context: Any) -> Any:
        """Tell what this provider understands."""
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    async def Cancel(self, request: Any, context: Any) -> Any:
        """End what runs here and what waits to connect; a command elsewhere runs to its end."""
        if not self._cancelled.done():
            self._cancelled.set_result("context canceled")
        return empty_pb2.Empty()

    async def Check(self, request: Any, context: Any) -> Any:
        """Fill in the connection's defaults, mark what is secret, and refuse what cannot be done."""
        type_, inputs = await _resource(request, context), _read(request.news)
        failures = _failures(type_, inputs)
        if "connection" in inputs:
            inputs["connection"] = _secret(_connection(inputs["connection"]))
        return provider_pb2.CheckResponse(inputs=_struct(inputs), failures=failures)

    async def Diff(self, request: Any, context: Any) -> Any:
        """Compare the inputs. A change within `triggers` is an update here: it is the SDK that has it replace."""
        found = _differences(_read(request.old_inputs), _read(request.news))
        kinds = {path: f"{kind}_REPLACE" if path == "triggers" else kind for path, kind in found.items()}
        return provider_pb2.DiffResponse(
            changes="DIFF_SOME" if found else "DIFF_NONE",
            replaces=["triggers"] if "triggers" in found else [],
            diffs=sorted({re.split(r"[.\[]", path)[0] for path in found}),
            detailedDiff={path: provider_pb2.PropertyDiff(kind=kind) for path, kind in kinds.items()},
            hasDetailedDiff=True,
        )

    async def Create(self, request: Any, context: Any) -> Any:
        """Run `create`, or copy."""
        type_, inputs = await _resource(request, context), _read(request.properties)
        outputs = {} if type_ == _COPY else dict.fromkeys(_STREAMS, _UNKNOWN if request.preview else "")
        if not request.preview:
            async with self._step(context, request.urn, request.timeout) as step:
                outputs.update(await _run(step, type_, inputs, inputs.get("create"), {}))
        name = "" if type_ == _COPY else request.urn.split("::", 3)[3]
        return provider_pb2.CreateResponse(id=name + secrets.token_hex(4), properties=_struct({**inputs, **outputs}))

    async def Update(self, request: Any, context: Any) -> Any:
        """Run `update`, or `create` where there is no `update`; copy where the file or its place is another."""
        type_, old, inputs = await _resource(request, context), _read(request.olds), _read(request.news)
        outputs = {key: old[key] for key in _STREAMS if key in old}
        if not request.preview:
            async with self._step(context, request.urn, request.timeout) as step:
                outputs.update(await _run(step, type_, inputs, inputs.get("update", inputs.get("create")), old))
        elif _outputs_unknown(type_, old, inputs):
            outputs = dict.fromkeys(outputs, _UNKNOWN)
        return provider_pb2.UpdateResponse(properties=_struct({**inputs, **outputs}))

    async def Delete(self, request: Any, context: Any) -> Any:
        """Run `delete`, over the connection that was stored with the resource; a copy stays."""
        old = _read(request.properties)
        if "delete" in old:
            async with self._step(context, request.urn, request.timeout) as step:
                await _run(step, await _resource(request, context), old, old["delete"], old)
        return empty_pb2.Empty()

    async def Read(self, request: Any, context: Any) -> Any:
        """Return what is known: nobody can tell what a command has left behind."""
        return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)

    async def Invoke(self, request: Any, context: Any) -> Any:
        """Run a command now, in previews too."""
        if request.tok != _RUN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"Invoke '{request.tok.partition(':')[2]}' not found")
        inputs = _read(request.args)
        if failures := _failures(_RUN, inputs):
            return provider_pb2.InvokeResponse(failures=failures)
        async with self._step(context) as step:
            outputs = await _run(step, _RUN, inputs, inputs["command"], {})
        return provider_pb2.InvokeResponse(**{"return": _struct({**inputs, **outputs})})

    @asynccontextmanager
    async def _step(self, context: Any, urn: str = "", timeout: float = 0) -> AsyncIterator[Step]:
        """Give a step its means, and the engine its error."""
        loop = asyncio.get_running_loop()
        stop: asyncio.Future[str] = loop.create_future()

        def end(reason: str) -> None:
            if not stop.done():
                stop.set_result(reason)

        def cancel(cancelled: asyncio.Future[str]) -> None:
            end(cancelled.result())

        if self._cancelled.done():
            cancel(self._cancelled)
        self._cancelled.add_done_callback(cancel)
        timer = loop.call_later(int(timeout), end, "context deadline exceeded") if timeout else None
        try:
            yield Step(stop=stop, report=partial(self._report, urn))
        except CommandError as error:
            await context.abort(grpc.StatusCode.UNKNOWN, str(error))
        finally:
            self._cancelled.remove_done_callback(cancel)
            if timer:
                timer.cancel()

    async def _report(self, urn: str, line: str) -> None:
        await self._engine.Log(engine_pb2.LogRequest(severity="INFO", urn=urn, message=line, ephemeral=True))


async def _run(step: Step, type_: str, inputs: Values, command: Any, old: Values) -> dict[str, str]:
    """Run a command, or copy; return what it printed."""
    given, before = _reveal(inputs), _reveal(old)
    if type_ in (_COPY, _REMOTE):
        from lab.pulumi import ssh  # takes 0.4 s, and most runs need none
    if type_ == _COPY:
        if _differences([before.get("source"), before.get("remotePath")], [given["source"], given["remotePath"]]):
            source = given["source"].get("text") or Path(given["source"]["path"])
            await ssh.copy(given["connection"], source, given["remotePath"], step)
        return {}
    if command is None:
        return {}
    environment = dict(given.get("environment", {}))
    if given.get("addPreviousOutputInEnv", True):
        environment |= {f"PULUMI_COMMAND_{key.upper()}": before[key] for key in _STREAMS if before.get(key)}
    job = Job(
        command=_reveal(command),
        report=step.report,
        stop=step.stop,
        stdin=given.get("stdin", ""),
        environment=environment,
        log=_LOGGED.get(given.get("logging"), (True, True)),
        interpreter=given.get("interpreter") or ("/bin/sh", "-c"),
        folder=given.get("dir"),
    )
    return await (ssh.remote(given["connection"], job) if type_ == _REMOTE else local(job))


async def _resource(request: Any, context: Any) -> str:
    """Return the type of the request's resource."""
    type_ = str(request.urn).split("::")[2].rpartition("$")[2]
    if type_ not in _INPUTS:
        await context.abort(grpc.StatusCode.NOT_FOUND, f"Resource '{type_.partition(':')[2]}' not found")
    return type_


def _failures(type_: str, inputs: Values) -> list[Any]:
    name, required, optional = _INPUTS[type_]
    found = [(key, f"Missing required field '{key}' on '{name}'") for key in required if key not in inputs]
    strange = [key for key in inputs if key not in optional and key not in required]
    found += [(key, f"Unrecognized field '{key}' on '{name}'") for key in strange]
    if type_ == _COPY and _signature(_reveal(inputs.get("source"))) not in _ASSETS:
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


def _outputs_unknown(type_: str, old: Values, inputs: Values) -> bool:
    """Tell whether a preview knows no outputs: an input is unknown, or not what it was. A new input does not count."""
    _, required, optional = _INPUTS[type_]
    changed = any(key in old and old[key] != inputs.get(key) for key in (*required, *optional))
    return changed or any(_reveal(value) == _UNKNOWN for value in inputs.values())


def _read(struct: Struct) -> dict[str, Any]:
    return {key: value for key, value in MessageToDict(struct).items() if value is not None}


def _struct(values: Values) -> Struct:
    struct = Struct()
    struct.update(values)
    return struct


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
        return {key: _reveal(item) for key, item in value.items()}
    return [_reveal(item) for item in value] if isinstance(value, list) else value


def _differences(old: Any, new: Any, path: str = "") -> dict[str, str]:
    """Return what differs as ADD, DELETE or UPDATE by property path; a secret is one value, an asset is its content."""
    steps: Mapping[Any, str] = {}
    if isinstance(old, list) and isinstance(new, list):
        steps = {index: f"[{index}]" for index in range(max(len(old), len(new)))}
    elif isinstance(old, Mapping) and isinstance(new, Mapping) and not (_signature(old) or _signature(new)):
        quoted = {key: '["' + key.replace('"', '\\"') + '"]' for key in (*old, *new)}
        steps = {key: f".{key}" if re.fullmatch(r"\w+", key, re.ASCII) else quoted[key] for key in quoted}
    else:
        content = [value["hash"] if _signature(value) in _ASSETS else value for value in (old, new)]
        same = content[0] == content[1] and isinstance(old, bool) == isinstance(new, bool)
        return (
            {}
            if same
            else {path.removeprefix("."): "ADD" if old is _MISSING else "DELETE" if new is _MISSING else "UPDATE"}
        )
    found: dict[str, str] = {}
    for key, step in steps.items():
        found |= _differences(_item(old, key), _item(new, key), path + step)
    return found


def _item(values: Any, key: Any) -> Any:
    try:
        return values[key]
    except LookupError:
        return _MISSING


async def register(server: grpc.aio.Server, engine: str) -> None:
    """Serve the engine at an address."""
    stub = engine_pb2_grpc.EngineStub(grpc.aio.insecure_channel(engine, options=UNLIMITED))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Command(stub), server)
