"""What several components share: Istio objects, and outputs that are unknown until something is there."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi.output import UNKNOWN

Value = TypeVar("Value")
ISTIO_API = "networking.istio.io/v1"


def istio_object(
    name: str, manifest: Mapping[str, Any], opts: pulumi.ResourceOptions
) -> kubernetes.apiextensions.CustomResource:
    """An object of one of Istio's kinds, from its manifest."""
    return kubernetes.apiextensions.CustomResource(
        name,
        api_version=manifest["apiVersion"],
        kind=manifest["kind"],
        metadata=manifest["metadata"],
        spec=manifest["spec"],
        opts=opts,
    )


def when_there(text: pulumi.Output[str], read: Callable[[str], Value | Awaitable[Value]]) -> pulumi.Output[Value]:
    """What `read` makes of a text; unknown where it is empty, which only a preview of what is not there yet gives."""

    def convert(value: str) -> Any:
        return read(value) if value.strip() else UNKNOWN

    return text.apply(convert)


def made_first(*resources: pulumi.Resource) -> list[pulumi.Resource]:
    """What a look at the cluster waits for: the resources, and in a preview nothing, since nothing is made.

    A chart of which any part would change is unknown in the CLI's previews, and all that waited for it with it: every
    VM would seem to change.
    """
    return [] if pulumi.runtime.is_dry_run() else list(resources)


def certain(output: pulumi.Output[Value], otherwise: Value) -> pulumi.Output[Value]:
    """The output; `otherwise` where it is unknown although this is no preview: what it comes from has failed.

    With --continue-on-error the CLI goes on where a part of a chart has failed, and leaves unknown inputs out: a
    command without anything to run would count as done.
    """
    preview = pulumi.runtime.is_dry_run()

    async def known() -> bool:
        return not preview or await output.is_known()

    async def value() -> Any:
        if preview or await output.is_known():
            return await output.future(with_unknowns=True)
        return otherwise

    return pulumi.Output(output.resources(), value(), known(), output.is_secret())


def alone(output: pulumi.Output[Value]) -> pulumi.Output[Value]:
    """The output without what it depends on, for a resource that names in `depends_on` what it waits for.

    The engine keeps the dependencies of every input of every resource in its state, by their long names.
    """

    async def value() -> Any:
        return await output.future(with_unknowns=True)

    return pulumi.Output(set(), value(), output.is_known(), output.is_secret())


@contextmanager
def without_stack_traces() -> Iterator[None]:
    """Resources that are made here have no stack trace in the state: 1.4 KB each, for nobody."""
    before = getattr(sys, "tracebacklimit", None)
    # Of one frame, the SDK makes an empty trace; of none, it would stumble.
    sys.tracebacklimit = 1
    try:
        yield
    finally:
        if before is None:
            del sys.tracebacklimit
        else:
            sys.tracebacklimit = before


async def known(output: pulumi.Output[Value]) -> Value | None:
    """The output's value, or None where the engine has no result for it.

    For coroutines, which wait for a value and carry none of its dependencies.
    """
    try:
        value = await output.future()
        return value if await output.is_known() else None
    except Exception:
        # The resource's own error is reported where it happened; here it only means that there is no result.
        return None
