"""Coroutines in tests: `asyncio.run` would leave no event loop to the Pulumi SDK."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Value = TypeVar("Value")


def wait_for(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """What a coroutine returns."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(coroutine)
