"""The gRPC side: Pulumi's ResourceMonitor and Engine services, translated to and from a deployment.

What this engine does not have (hooks, transforms, parameterized packages ...) is not among the features it
announces, so the SDK itself says so to a program that uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2, resource_pb2, resource_pb2_grpc

from lab.engine import urns
from lab.engine.deployment import Deployment
from lab.engine.model import Goal, explain
from lab.engine.providers.base import ProviderError
from lab.engine.state import Record
from lab.engine.values import from_struct, to_struct

FEATURES = ("SECRETS", "RESOURCE_REFERENCES", "OUTPUT_VALUES", "DELETED_WITH")
THREADS = 2000
"""Calls that may wait at once; threads are made as they are needed."""
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_DURATION = re.compile(r"([\d.]+)(ms|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class Monitor(resource_pb2_grpc.ResourceMonitorServicer, engine_pb2_grpc.EngineServicer):
    """Both services, for one program."""

    def __init__(self, run: Deployment) -> None:
        self._run = run
        self.stack_outputs: dict[str, Any] | None = None
        """What the program exported; set once it came to its end."""

    def GetDeploymentInfo(self, request: Any, context: Any) -> Any:
        """Tell the SDK which of its features this engine has."""
        names = [f"RESOURCE_MONITOR_FEATURE_{name}" for name in FEATURES]
        return resource_pb2.DeploymentInfo(
            project=self._run.project,
            stack=self._run.stack,
            dryRun=self._run.preview,
            supportedFeatures=[resource_pb2.ResourceMonitorFeature.Value(name) for name in names],
        )

    def RegisterResource(self, request: Any, context: Any) -> Any:
        """Carry out one registration; a failure is a result, so that the program goes on."""
        goal = self._goal(request)
        record = self._run.register(goal)
        if record is None:
            return resource_pb2.RegisterResourceResponse(urn=goal.record.urn, result=resource_pb2.FAIL)
        shown = record.outputs if record.custom or goal.remote else {}
        return resource_pb2.RegisterResourceResponse(urn=record.urn, id=record.id, object=to_struct(shown))

    def RegisterResourceOutputs(self, request: Any, context: Any) -> Any:
        """Take a component's outputs; the stack's wait until it is known whether the program succeeds."""
        outputs = from_struct(request.outputs)
        if urns.parse(request.urn).qualified_type == urns.STACK_TYPE:
            self.stack_outputs = outputs
        else:
            self._run.outputs(request.urn, outputs)
        return empty_pb2.Empty()

    def ReadResource(self, request: Any, context: Any) -> Any:
        """Look up another stack."""
        urn = self._run.urn(request.parent, request.type, request.name)
        try:
            found = self._run.read(request.type, request.id)
        except ProviderError as error:
            self._run.events.message("error", urn, str(error))
            return resource_pb2.ReadResourceResponse(urn=urn, result=resource_pb2.FAIL)
        return resource_pb2.ReadResourceResponse(urn=urn, properties=to_struct(found))

    def Invoke(self, request: Any, context: Any) -> Any:
        """Call a function of a provider."""
        try:
            result = self._run.invoke(request.tok, from_struct(request.args), request.provider, request.version)
        except Exception as error:
            context.abort(grpc.StatusCode.UNKNOWN, self._run.events.hide(explain(error)))
        return provider_pb2.InvokeResponse(**{"return": to_struct(result)})

    def SignalAndWaitForShutdown(self, request: Any, context: Any) -> Any:
        """Let the program end; deletions do not need it."""
        return empty_pb2.Empty()

    def Log(self, request: Any, context: Any) -> Any:
        """Take what the program says."""
        severity = engine_pb2.LogSeverity.Name(request.severity).lower()
        if severity != "debug":
            self._run.events.message(severity, request.urn, request.message)
        return empty_pb2.Empty()

    def RequirePulumiVersion(self, request: Any, context: Any) -> Any:
        """Accept any: the range is about the CLI, which is not here."""
        return engine_pb2.RequirePulumiVersionResponse()

    def _goal(self, request: Any) -> Goal:
        options = {"import": request.importId, "protect": request.protect}
        unsupported = [f"`{name}` is not supported by the embedded engine" for name, given in options.items() if given]
        inputs: dict[str, Any] = {}
        try:
            inputs = from_struct(request.object)
        except ValueError as error:
            unsupported.append(str(error))
        if urns.is_provider(request.type) and request.version:
            inputs["version"] = request.version
        package = urns.package_of(request.type)
        timeouts = {name: getattr(request.customTimeouts, name) for name in ("create", "update", "delete")}
        record = Record(
            urn=self._run.urn(request.parent, request.type, request.name),
            type=request.type,
            custom=request.custom,
            inputs=inputs,
            parent=request.parent,
            provider=request.provider or (request.providers.get(package, "") if request.remote else ""),
            dependencies=tuple(sorted(request.dependencies)),
            property_dependencies={key: sorted(item.urns) for key, item in request.propertyDependencies.items()},
            retain_on_delete=request.retainOnDelete,
            deleted_with=request.deletedWith,
            additional_secret_outputs=tuple(request.additionalSecretOutputs),
            custom_timeouts={name: _seconds(text) for name, text in timeouts.items() if text},
            replace_on_changes=tuple(request.replaceOnChanges),
        )
        return Goal(
            record=record,
            name=request.name,
            aliases=tuple(request.aliasURNs),
            ignore_changes=tuple(request.ignoreChanges),
            delete_before_replace=request.deleteBeforeReplace if request.deleteBeforeReplaceDefined else None,
            remote=request.remote,
            version=request.version,
            problem="; ".join(unsupported),
        )


def _seconds(text: str) -> float:
    """Read a duration as Go writes it: `1m30s`."""
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text))


@contextmanager
def serve(monitor: Monitor) -> Iterator[str]:
    """Serve on a local port for as long as the context lasts; yields the address."""
    threads = ThreadPoolExecutor(THREADS)
    server = grpc.server(threads, options=_OPTIONS)
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(monitor, server)
    engine_pb2_grpc.add_EngineServicer_to_server(monitor, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
        threads.shutdown()  # steps under way end, and are recorded, though nobody waits for them
