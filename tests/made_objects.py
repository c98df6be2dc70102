"""The Kubernetes objects of a stack; where the program looks at a mesh, one is made up that agrees to everything."""

from __future__ import annotations

import json
from typing import Any

import pytest
import recording  # noqa: F401  loads the providers' SDKs, which warn of themselves when they load
from pulumi.runtime.proto.source_pb2 import StackTrace

from components.existing import FoundIstio
from manifests.program import HIDDEN, Asked, ask
from migration.decision import Record, Step
from migration.stack import migrations_of
from settings import Settings

SECRETS = {
    "kubernetes.io/tls": ["tls.crt", "tls.key"],
    "kubernetes.io/service-account-token": [],
}
"""What the API server wants to find in Secrets."""
FOUND = FoundIstio(version="1.31.1", mesh_id="theirs", trust_domain="cluster.local", mesh_config={})


def steps(stack: Settings, _: object) -> dict[str, Step]:
    """Every step that a stack asks for."""
    return {
        move.host: Step(
            weights=move.wanted.weights,
            record=Record(source=move.wanted.source, target=move.wanted.target, at=move.wanted.at),
        )
        for move in migrations_of(stack)
    }


def asked_by(stack: Settings) -> Asked:
    """What the program asks of the cluster."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("arguments.migration.steps", steps)
        patch.setattr("mesh.facts", lambda client, revision: None)
        patch.setattr("mesh.judge", lambda wanted, facts: FOUND)
        # Where a resource is made is told with it; that takes longer than to make it, deep in hypothesis' calls.
        patch.setattr("pulumi.runtime.resource._get_stack_trace", StackTrace)
        return ask(stack)


def texts(asked: Asked) -> list[str]:
    """Each object that has a name, as JSON."""
    return [text_of(obj) for obj in asked.objects if "name" in obj["metadata"]]


def text_of(obj: dict[str, Any]) -> str:
    """An object as JSON, with something in place of what is secret."""
    hidden = {key: dict.fromkeys(SECRETS.get(obj.get("type", ""), ["a"]), "") for key in obj if obj[key] == HIDDEN}
    return json.dumps({**obj, **hidden}, sort_keys=True)
