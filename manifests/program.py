"""Runs the program as a first preview does, with no cluster and no VM behind it, and notes what it asks for.

The Pulumi SDK's own stand-ins for engine and providers do that: they answer each request with its own inputs.
"""

from __future__ import annotations

import logging
import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pulumi
from pulumi.runtime import mocks, rpc

import settings
from cluster.client import ApiError, Client
from components import confirmation
from settings import Settings

PROGRAM = Path(__file__).resolve().parents[1] / "__main__.py"
HIDDEN = "[secret]"
"""Stands where a value is secret."""
CHARTS = ("kubernetes:helm.sh/v3:Release", "kubernetes:helm.sh/v4:Chart")
REMEMBERED = "kubernetes:networking.istio.io/v1:WorkloadGroupPatch"
"""What the registration guard knows of VMs that were confirmed; it stands in an object that is noted without it."""


@dataclass
class Asked:
    """What the program asks of Kubernetes, in no particular order."""

    charts: list[dict[str, Any]] = field(default_factory=list)
    """Inputs of charts and releases; each has a `name`."""
    objects: list[dict[str, Any]] = field(default_factory=list)


class _Answers(mocks.Mocks):
    """Notes what is for Kubernetes, and says what a cluster would say in which there is nothing yet."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        """Take a resource as it is; nothing gives it an id, as in a preview."""
        if args.typ.startswith("kubernetes:") and args.typ != REMEMBERED:
            inputs = plain(args.inputs)
            if args.typ in CHARTS:
                self._asked.charts.append({"name": args.name, **inputs})
            else:
                self._asked.objects.append(inputs)
        return "", dict(args.inputs)

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        """Answer a command that is run at once: nothing was printed."""
        return {"stdout": ""}, []


class _NoCluster(Client):
    """A cluster in which there is nothing yet, not even Istio's kinds."""

    def _request(self, *_: Any, **__: Any) -> str:
        raise ApiError("there is no cluster", status=404, reason="NotFound")


def plain(value: Any) -> Any:
    """Return a value as a manifest has it: whole numbers whole, secrets hidden."""
    if rpc.is_rpc_secret(value):
        return HIDDEN
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def ask(stack: Settings, project: str = "istio-vm-mesh") -> Asked:
    """Run the program on a stack's settings and return what it asks for.

    Raises:
        pulumi.RunError: The program refuses the settings.
    """
    asked = Asked()
    offline = replace(stack, hosts=stack.hosts.model_copy(update={"observe": False}))
    pulumi.runtime.set_mocks(
        _Answers(asked), project=project, stack="manifests", preview=True, logger=logging.getLogger("pulumi")
    )
    load, settings.load = settings.load, lambda: offline
    connect, Client.connect = Client.connect, lambda *_: _NoCluster(None, None)  # type: ignore[method-assign]
    # Nothing comes up here, however long one looks.
    seconds, confirmation.PREVIEW_SECONDS = confirmation.PREVIEW_SECONDS, 0.0

    def program() -> None:
        runpy.run_path(str(PROGRAM))

    try:
        pulumi.runtime.test(program)()  # type: ignore[no-untyped-call]  # the SDK has no types there
    finally:
        settings.load = load
        Client.connect = connect  # type: ignore[method-assign]
        confirmation.PREVIEW_SECONDS = seconds
    return asked
