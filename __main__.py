"""Loads the stack's configuration, and declares its resources."""

import settings
from observation import looking

stack = settings.load()
look = looking(stack)

# What this imports takes a second, in which the VMs answer.
from program import declare  # noqa: E402

declare(stack, look)
