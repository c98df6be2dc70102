"""A deadline for what has none of its own: a library's login, a stream."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def within(seconds: float, action: Callable[[], Value]) -> Value:
    """What an action returns, done in a thread of its own, which is left alone where it takes too long.

    Raises:
        TimeoutError: It did.
    """
    done: list[Value] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            done.append(action())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not done:
        raise TimeoutError
    return done[0]
