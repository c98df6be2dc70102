"""What makes a run take over objects that a killed one has made, and its state does not hold."""

from __future__ import annotations

import os

_UPSERT = "PULUMI_K8S_UPSERT_EXISTING_OBJECTS"
VARIABLES = {_UPSERT: "true", "PULUMI_K8S_ENABLE_PATCH_FORCE": "true"}
"""They make pulumi-kubernetes update an object that it is to create and that exists already, and also fields of it that
others have written since, as istiod does in its webhooks. The SDK makes options of the provider of them, which are in
the state."""


def takes_over() -> bool:
    """Whether this run does."""
    return os.environ.get(_UPSERT) == "true"
