"""What several components share: Istio objects, and outputs that are unknown until something is there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes
from pulumi.output import UNKNOWN

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


def when_there(text: pulumi.Output[str], read: Callable[[str], str]) -> pulumi.Output[str]:
    """What `read` makes of a text; unknown where it is empty, which only a preview of what is not there yet gives."""

    def convert(value: str) -> Any:
        return read(value) if value.strip() else UNKNOWN

    return text.apply(convert)
