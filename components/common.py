"""What several components share: outputs that are unknown until something is there."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi.output import UNKNOWN

from cluster.errors import ApiError
from components.hooks import in_thread

Value = TypeVar("Value")
Result = TypeVar("Result")
WAIT_SECONDS = 90.0
"""How long `up` waits for an object that a controller makes."""
POLL_SECONDS = 0.5
ISTIO_API = "networking.istio.io/v1"


def observed(
    what: str, look: Callable[[], Value | None], *made: pulumi.Resource, wait: bool = True
) -> pulumi.Output[Value | None]:
    """What a look at the cluster finds, once some resources are made; None where one of them has failed.

    `up` looks again until there is something, and ends the program after `WAIT_SECONDS`. A preview makes nothing, so it
    looks once, at what is there already: None where that is nothing. No answer of the cluster ends both.

    Args:
        what: What is missing where nothing is found, as a sentence.
        look: The look, in a thread of its own.
        made: Resources.
        wait: Whether `up` waits until there is something.
    """

    async def value() -> Value | None:
        preview = pulumi.runtime.is_dry_run()
        for resource in () if preview else made:
            if not await _is_made(resource):
                return None
        end = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                found = await in_thread(look)
            except ApiError as error:
                raise pulumi.RunError(str(error)) from None
            if found is not None or preview or not wait:
                return found
            if time.monotonic() >= end:
                raise pulumi.RunError(f"{what} after {WAIT_SECONDS:g} s")
            await asyncio.sleep(POLL_SECONDS)

    awaited = [] if pulumi.runtime.is_dry_run() else [resource.urn for resource in made]
    return pulumi.Output.all(*awaited).apply(lambda _: value())


async def _is_made(resource: pulumi.Resource) -> bool:
    """Whether a resource, or all that a chart consists of, was made; it waits until that is decided."""
    if isinstance(resource, kubernetes.helm.v4.Chart):
        return bool(await resource.resources.is_known())
    return not isinstance(resource, pulumi.CustomResource) or await resource.id.is_known()


def when_there(
    found: pulumi.Output[Value | None], convert: Callable[[Value], Result | Awaitable[Result]]
) -> pulumi.Output[Result]:
    """What is made of something that was `observed`; unknown where it is not there."""

    def converted(value: Value | None) -> Any:
        return UNKNOWN if value is None else convert(value)

    return found.apply(converted)


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
    except Exception as error:
        # What the SDK makes of a refused request of its own, without --continue-on-error, is a bare Exception or says
        # that the engine ends. It is reported where it happened; anything else is a mistake in this program.
        if type(error) in (Exception, pulumi.RunError):
            return None
        raise
