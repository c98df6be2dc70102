"""Settings and Istio never disagree: what settings accept, the CRDs' schemas and istiod's webhook accept, too."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import recording  # noqa: F401  loads the providers' SDKs, which warn of themselves when they load
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from stack import PROJECT, Kubectl, Stack
from stack_strategies import NAMESPACES, Config, project, pruned, stacks

from lab.engine.providers.kube_client import ApiError, KubeClient
from manifests.program import ask
from settings import SettingsError, from_stack_file, parse

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
STACKS = int(os.environ.get("AGREEMENT_STACKS", "500"))


@pytest.fixture(scope="module")
def client(joined: Stack, kubectl: Kubectl) -> Iterator[KubeClient]:
    """The API server, with the namespaces that generated stacks speak of."""
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES]
    objects = json.dumps({"apiVersion": "v1", "kind": "List", "items": spaces})
    kubectl("apply", "-f", "-", stdin=objects)
    yield KubeClient(str(PROJECT / ".lab/kubeconfig"), None)
    kubectl("delete", "namespace", *NAMESPACES, "--wait=false")


def refusal(client: KubeClient, obj: dict[str, Any]) -> str:
    """What the server says against an object, as it would in a run, but with unknown fields an error."""
    kind = client.kind(obj["apiVersion"], obj["kind"])
    metadata = obj["metadata"]
    query = {"fieldManager": "agreement", "force": "true", "fieldValidation": "Strict", "dryRun": "All"}
    url = kind.url(metadata.get("namespace"), metadata["name"])
    try:
        client.request("PATCH", url, query=query, body=obj, content_type="application/apply-patch+yaml")
    except ApiError as error:
        return str(error)
    return ""


def judged(client: KubeClient, objects: dict[str, Config]) -> list[str]:
    """Every object that the server refuses, with a stack that makes it."""
    with ThreadPoolExecutor(8) as pool:
        said = pool.map(lambda text: refusal(client, json.loads(text)), objects)
        return [
            f"{reason}\n{text}\nof:\n{yaml.safe_dump(stack)}"
            for reason, (text, stack) in zip(said, objects.items(), strict=True)
            if reason
        ]


def made_of(stack: Any) -> list[str]:
    return [json.dumps(obj, sort_keys=True) for obj in ask(stack).objects if "name" in obj["metadata"]]


def test_generated_stacks_are_refused_with_paths_or_accepted_by_istio(
    client: KubeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project(tmp_path))
    objects: dict[str, Config] = {}
    refused: list[Config] = []
    seen: list[Config] = []
    tried: list[Config] = []

    @settings(
        max_examples=STACKS,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(stacks())
    def look(stack: Config) -> None:
        seen.append(stack)
        try:
            parse(stack, project_dir=tmp_path)
        except SettingsError as error:
            assert error.problems and all(problem.path for problem in error.problems)
            refused.append(stack)
        right, rest = pruned(stack, tmp_path)
        for text in made_of(right) if rest not in tried else ():
            objects.setdefault(text, rest)
        tried.append(rest)

    look()
    kinds = {json.loads(text)["kind"] for text in objects}
    # Nearly every one is spoiled somewhere; what is left of it then is tried, and differs from stack to stack.
    different = {json.dumps(rest, sort_keys=True) for rest in tried}
    assert len(seen) >= STACKS and len(refused) > STACKS / 10, (len(seen), len(refused))
    assert len(different) > STACKS / 4, len(different)
    assert {"DestinationRule", "ServiceEntry", "VirtualService", "WorkloadGroup", "WorkloadEntry"} <= kinds
    assert {"AuthorizationPolicy", "PeerAuthentication", "Service", "Namespace"} <= kinds
    assert len(objects) > STACKS / 2, len(objects)
    found = judged(client, objects)
    assert not found, f"{len(found)} of {len(objects)} objects of {len(seen)} stacks:\n" + "\n\n".join(found[:20])


@pytest.mark.parametrize("file", sorted(path.name for path in (PROJECT / "examples").glob("*/Pulumi.*.yaml")))
def test_examples_are_accepted_by_istio(client: KubeClient, file: str) -> None:
    stack = from_stack_file(next((PROJECT / "examples").glob(f"*/{file}")), PROJECT / "Pulumi.yaml")
    objects = [text for text in made_of(stack) if json.loads(text)["apiVersion"].split("/")[0].endswith("istio.io")]
    assert objects
    # Its namespaces are not there; whether the objects are right does not depend on where they are.
    moved = {
        text.replace('"namespace": "bookinfo"', f'"namespace": "{NAMESPACES[0]}"').replace(
            '"namespace": "helloworld"', f'"namespace": "{NAMESPACES[0]}"'
        ): {}
        for text in objects
    }
    assert judged(client, moved) == []


def test_the_server_refuses_what_is_wrong(client: KubeClient) -> None:
    """The counter-check: both the schemas and the webhook are asked."""
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "wrong", "namespace": NAMESPACES[0]},
        "spec": {"host": "a.example.com"},
    }
    assert refusal(client, rule) == ""
    assert "colour: field not declared in schema" in refusal(
        client, {**rule, "spec": {**rule["spec"], "colour": "red"}}
    )
    pool = {"trafficPolicy": {"outlierDetection": {"interval": "0.1ms"}}}
    assert refusal(client, {**rule, "spec": {**rule["spec"], **pool}})
