"""A resource monitor that records what mocks hide: parents, providers, dependencies, secrets, options."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pulumi
import pytest
from fake_cluster import FakeCluster
from google.protobuf.json_format import MessageToDict
from pulumi.runtime import mocks as pulumi_mocks
from pulumi.runtime.proto import resource_pb2

with warnings.catch_warnings():
    # The SDK loads itself on first use, and warns of a resource of its own that is not used here.
    warnings.simplefilter("ignore", DeprecationWarning)
    import pulumi_command

    _ = pulumi_command.remote.Command

SECRET_MARK = "4dabf18193072939515e22adb298388d"
SECRET_VALUE = "1b47061264138c4ac30d75fd1eb44270"

Invoked = Callable[[str, dict[str, Any]], str]
FRAMES = 12
"""Of each resource's stack trace, which the SDK takes: pytest's own frames took a quarter of a run's time."""


@dataclass(frozen=True)
class Registered:
    """One RegisterResource request."""

    type: str
    name: str
    urn: str
    request: Any = field(repr=False)
    parent: str
    provider: str
    providers: dict[str, str]
    dependencies: frozenset[str]
    secret_outputs: frozenset[str]
    remote: bool
    delete_before_replace: bool
    ignored: tuple[str, ...]
    """Inputs whose changes are ignored."""
    hooked: frozenset[str]
    """Steps that the program does something before."""

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """As sent; a secret is still wrapped."""
        return MessageToDict(self.request.object)

    @property
    def size(self) -> int:
        """Bytes of what the engine keeps beside the inputs: dependencies, and where in the program it was made."""
        return len(str(self.request)) - len(str(self.request.object))

    @property
    def parent_name(self) -> str:
        return self.parent.rsplit("::", 1)[-1]

    @property
    def dependency_names(self) -> set[str]:
        return {urn.rsplit("::", 1)[-1] for urn in self.dependencies}


class Answers(pulumi_mocks.Mocks):
    """What the providers would answer."""

    def __init__(self, invoked: Invoked) -> None:
        self.invoked = invoked

    def new_resource(self, args: pulumi_mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        state = dict(args.inputs)
        if args.typ == "kubernetes:core/v1:Secret":
            state["metadata"] = {**state["metadata"], "uid": f"uid-of-{args.name}"}
        if args.typ.startswith("command:") and not pulumi.runtime.is_dry_run():
            confirmed = '{"ready": true, "certificate": {"serial": "0a", "notAfter": "2026-11-22T12:00:00Z"}}'
            state["stdout"] = confirmed if args.name.endswith("-confirm") else f"output of {args.name}"
        return f"id-of-{args.name}", state

    def call(self, args: pulumi_mocks.MockCallArgs) -> dict[str, Any]:
        return {"stdout": self.invoked(args.args["command"], args.args)}


class Recorder(pulumi_mocks.MockMonitor):
    """Records every request; resources named in `failing` fail, and what depends on them is left out."""

    def __init__(self, invoked: Invoked, failing: Iterable[str] = ()) -> None:
        super().__init__(Answers(invoked))
        self.failing = set(failing)
        self.lost: set[str] = set()
        self.registered: dict[str, Registered] = {}
        self.invokes: list[dict[str, Any]] = []
        self.outputs: dict[str, dict[str, Any]] = {}

    def RegisterResource(self, request: Any) -> Any:
        urn = self.make_urn(request.parent, request.type, request.name)
        if request.type != "pulumi:pulumi:Stack":
            assert request.name not in self.registered, f"{request.name} is registered twice"
            self.registered[request.name] = Registered(
                type=request.type,
                name=request.name,
                urn=urn,
                request=request,
                parent=request.parent,
                provider=request.provider,
                providers=dict(request.providers),
                dependencies=frozenset(request.dependencies),
                secret_outputs=frozenset(request.additionalSecretOutputs),
                remote=request.remote,
                delete_before_replace=request.deleteBeforeReplace,
                ignored=tuple(request.ignoreChanges),
                hooked=frozenset(step for step in ("before_create", "before_update") if getattr(request.hooks, step)),
            )
        lost = self.lost & set(request.dependencies)
        if request.name in self.failing or lost:
            self.lost.add(urn)
            return resource_pb2.RegisterResourceResponse(urn=urn, id="", result=resource_pb2.Result.FAIL)
        return super().RegisterResource(request)

    def RegisterResourceOutputs(self, request: Any) -> Any:
        self.outputs[request.urn.rsplit("::", 1)[-1]] = MessageToDict(request.outputs)
        return super().RegisterResourceOutputs(request)

    def Invoke(self, request: Any) -> Any:
        self.invokes.append(MessageToDict(request.args))
        return super().Invoke(request)


@dataclass
class Run:
    """What a program registered, and the values of the outputs that it gave back."""

    monitor: Recorder
    values: dict[str, Any] = field(default_factory=dict)
    cluster: FakeCluster = field(default_factory=FakeCluster)
    """The cluster that the program looked at."""

    def __getitem__(self, name: str) -> Registered:
        return self.monitor.registered[name]

    @property
    def names(self) -> set[str]:
        return set(self.monitor.registered)


UNKNOWN = "<unknown>"


def run(
    program: Callable[[], dict[str, Any]],
    invoked: Invoked = lambda command, args: "",
    *,
    preview: bool = False,
    failing: Iterable[str] = (),
) -> Run:
    """Run a program whose result is a mapping of outputs; an unknown one becomes `UNKNOWN`."""
    result = Run(Recorder(invoked, failing))
    pulumi.runtime.set_mocks(
        result.monitor.mocks,
        project="istio-vm-mesh",
        stack="dev",
        preview=preview,
        monitor=result.monitor,
        logger=logging.getLogger("pulumi"),
    )

    async def value_of(item: Any) -> Any:
        output = pulumi.Output.from_input(item)
        known = await output.is_known()
        return await output.future() if known else UNKNOWN

    @pulumi.runtime.test
    def body() -> pulumi.Output[None]:
        outputs = program()

        async def collect() -> None:
            for name, item in outputs.items():
                result.values[name] = await value_of(item)

        return pulumi.Output.from_input(collect())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "tracebacklimit", FRAMES, raising=False)
        body()
    return result


def secrets(value: Any) -> list[Any]:
    """Every value that is wrapped as a secret."""
    if isinstance(value, dict):
        if value.get(SECRET_MARK) == SECRET_VALUE:
            return [value["value"]]
        return [found for item in value.values() for found in secrets(item)]
    return [found for item in value for found in secrets(item)] if isinstance(value, list) else []


def public_text(value: Any) -> str:
    """Everything that is not wrapped as a secret, as text."""
    if isinstance(value, dict) and value.get(SECRET_MARK) == SECRET_VALUE:
        return ""
    if isinstance(value, dict):
        return "\n".join(f"{key}: {public_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "\n".join(map(public_text, value))
    return value if isinstance(value, str) else json.dumps(value)
