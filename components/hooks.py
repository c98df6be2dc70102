"""What the program does right before a step of a VM: a hook that fails fails its step, and the next `up` tries again.

One hook of the engine's stands for all VMs, and looks up by the step's name what there is to do: registering one for
each would cost a call each, in every run. Previews and `destroy` run none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import pulumi

Value = TypeVar("Value")
Given = ParamSpec("Given")
Action = Callable[[pulumi.ResourceHookArgs], Awaitable[None]]

# Not asyncio's own: its threads wait for steps of the engine's, which wait for hooks.
_THREADS = ThreadPoolExecutor(max_workers=32, thread_name_prefix="hooks")


async def in_thread(call: Callable[Given, Value], *args: Given.args, **kwargs: Given.kwargs) -> Value:
    """What a call returns that would otherwise keep the hooks of all other VMs waiting."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, lambda: call(*args, **kwargs))


class Refused(Exception):
    """A step may not be taken; the message is for people."""


class Hooks:
    """Who does what before which step; one for a run of the program."""

    def __init__(self) -> None:
        self._actions: dict[str, Action] = {}
        self._hook: pulumi.ResourceHook | None = None

    def before(self, name: str, action: Action, *, create: bool = True) -> pulumi.ResourceHookBinding:
        """What binds an action to a resource: it runs before each update, and before the resource is created.

        Args:
            name: The resource's name.
            action: What to do.
            create: Whether it runs before the resource is created, too.
        """
        self._actions[name] = action
        if self._hook is None:
            self._hook = pulumi.ResourceHook("istio-vm-mesh", self._run)
        hooks: list[Any] = [self._hook]
        return pulumi.ResourceHookBinding(before_create=hooks if create else None, before_update=hooks)

    async def _run(self, args: pulumi.ResourceHookArgs) -> None:
        await self._actions[args.name](args)
