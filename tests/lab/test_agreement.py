"""Settings and Istio never disagree: what settings accept, the CRDs' schemas and istiod's webhook accept, too.

So of generated stacks, of this project's stack files, and of all that the tests without a lab make; what the tests on
the lab make is applied there anyway.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from kubernetes import config, dynamic
from kubernetes.client.exceptions import ApiException
from made_objects import asked_by, texts
from stack import PROJECT, Kubectl, Stack
from stack_strategies import NAMESPACES, Config, base, project, pruned
from whole_stacks import stacks

from manifests.__main__ import KUBERNETES
from manifests.charts import render
from settings import Settings, SettingsError, from_stack_file, parse
from settings.models import Istio

STACKS = int(os.environ.get("AGREEMENT_STACKS", "500"))
"""How many are generated. More than by default are others each time."""
pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(600 + STACKS)]
MAKERS = ["settings", "components", "manifests", "test_program*.py", "test_project_files.py"]
"""Tests without a lab that make objects, or stacks."""
FILES = [PROJECT / "Pulumi.dev.yaml", *sorted((PROJECT / "examples").glob("*/Pulumi.*.yaml"))]
THERE = ["istio-system", *NAMESPACES]
"""Namespaces in which objects are tried."""
KINDS = {"DestinationRule", "Gateway", "ServiceEntry", "VirtualService", "WorkloadEntry", "WorkloadGroup"}
KINDS |= {"AuthorizationPolicy", "MutatingWebhookConfiguration", "Namespace", "PeerAuthentication", "Secret", "Service"}
KINDS |= {"ServiceAccount", "ValidatingAdmissionPolicy"}
"""What this project makes."""


Client = dynamic.DynamicClient


@dataclass
class UnitTests:
    """A run of tests without a lab, which notes what they make."""

    process: subprocess.Popen[bytes]
    log: Path
    file: Path

    def objects(self) -> dict[str, str]:
        """Every object, and the test that made it first."""
        assert self.process.wait() == 0, self.log.read_text()
        return dict(json.loads(line) for line in self.file.read_text().splitlines())


@pytest.fixture(scope="module")
def unit_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnitTests]:
    """These tests, which run beside the first one here."""
    folder = tmp_path_factory.mktemp("unit")
    tests = [str(path) for maker in MAKERS for path in sorted((PROJECT / "tests").glob(maker))]
    notes = ["-p", "objects_of_tests", "--objects", str(folder / "objects")]
    asked = [*notes, "-p", "no:cacheprovider", "-q", "--hypothesis-seed=0", *tests]
    paths = {"PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "tests")])}
    with (folder / "log").open("wb") as log:
        argv = [sys.executable, "-m", "pytest", *asked]
        run = subprocess.Popen(argv, cwd=PROJECT, env={**os.environ, **paths}, stdout=log, stderr=subprocess.STDOUT)
    yield UnitTests(run, folder / "log", folder / "objects")
    run.kill()
    run.wait()


@pytest.fixture(scope="module")
def client(joined: Stack, kubectl: Kubectl) -> Iterator[Client]:
    """The API server, with namespaces in which there is nothing."""
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in NAMESPACES]
    objects = json.dumps({"apiVersion": "v1", "kind": "List", "items": spaces})
    kubectl("apply", "-f", "-", stdin=objects)
    yield Client(config.new_client_from_config(str(PROJECT / ".lab/kubeconfig")))
    kubectl("delete", "namespace", *NAMESPACES, "--wait=false")


def refusal(client: Client, obj: dict[str, Any]) -> str:
    """What the server says against an object, as it would in a run, but with unknown fields an error.

    An object of a namespace that is not there, or in which there may be one of its name, is tried in another one:
    whether it is right does not depend on where it is.
    """
    kind = client.resources.get(api_version=obj["apiVersion"], kind=obj["kind"])
    metadata = obj["metadata"]
    if metadata.get("namespace", THERE[0]) not in THERE:
        obj = {**obj, "metadata": (metadata := {**metadata, "namespace": NAMESPACES[0]})}
    try:
        client.server_side_apply(
            kind,
            body=obj,
            name=metadata["name"],
            namespace=metadata.get("namespace"),
            field_manager="agreement",
            force_conflicts=True,
            dry_run="All",
            query_params=[("fieldValidation", "Strict")],
        )
    except ApiException as error:
        return str(json.loads(error.body)["message"])
    return ""


def judged(client: Client, objects: Mapping[str, str]) -> list[str]:
    """Every object that the server refuses, with what makes it."""
    with ThreadPoolExecutor(8) as pool:
        said = pool.map(lambda text: refusal(client, json.loads(text)), objects)
        return [
            f"{reason}\n{text}\nof:\n{maker}"
            for reason, (text, maker) in zip(said, objects.items(), strict=True)
            if reason
        ]


def kinds(objects: Mapping[str, str]) -> Counter[str]:
    return Counter(json.loads(text)["kind"] for text in objects)


@pytest.mark.usefixtures("unit_tests")
def test_generated_stacks_are_refused_with_paths_or_accepted_by_istio(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project(tmp_path))
    objects: dict[str, str] = {}
    accepted: set[str] = set()
    refused: set[str] = set()
    rests: set[str] = set()

    def make(stack: Settings, text: str) -> None:
        for made in texts(asked_by(stack)):
            objects.setdefault(made, text)

    @settings(
        max_examples=STACKS,
        derandomize=STACKS <= 500,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(stacks())
    def look(stack: Config) -> None:
        text = json.dumps(stack)
        assume(text not in accepted | refused)
        try:
            made = parse(stack, project_dir=tmp_path)
        except SettingsError as error:
            assert error.problems and all(problem.path for problem in error.problems)
            refused.add(text)
            made, rest = pruned(stack, tmp_path)
            text = json.dumps(rest)
            if text in rests:
                return
            rests.add(text)
        else:
            accepted.add(text)
        make(made, text)

    look()
    found = kinds(objects)
    counts = f"{len(accepted)} stacks accepted, {len(refused)} refused, of which {len(rests)} rests accepted: {found}"
    print(counts)  # noqa: T201  how much was tried
    assert len(accepted) + len(refused) >= STACKS, counts
    assert len(accepted) > STACKS / 3 and len(refused) > STACKS / 4 and len(rests) > STACKS / 8, counts
    assert set(found) >= KINDS, counts
    wrong = judged(client, objects)
    assert not wrong, f"{len(wrong)} of {len(objects)} objects:\n" + "\n\n".join(wrong[:20])


def test_objects_of_unit_tests_are_accepted(client: Client, unit_tests: UnitTests) -> None:
    objects = unit_tests.objects()
    found = kinds(objects)
    assert set(found) >= KINDS, found
    wrong = judged(client, objects)
    assert not wrong, f"{len(wrong)} of {len(objects)} objects:\n" + "\n\n".join(wrong)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_stack_files_are_accepted(client: Client, file: Path) -> None:
    objects = texts(asked_by(from_stack_file(file, PROJECT / "Pulumi.yaml")))
    assert kinds(dict.fromkeys(objects, ""))["WorkloadGroup"]
    assert judged(client, dict.fromkeys(objects, file.name)) == []


@pytest.mark.parametrize("preset", get_args(Istio.model_fields["preset"].annotation))
def test_charts_of_presets_are_accepted(
    client: Client,
    lab_environment: Mapping[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    preset: str,
) -> None:
    monkeypatch.chdir(project(tmp_path))
    monkeypatch.setenv("PATH", lab_environment["PATH"])
    remote = {"values": {"global": {"remotePilotAddress": "10.9.9.9"}}} if preset == "remote" else {}
    more = {"preset": preset, "valuesFiles": ["values-a.yaml"], "revisions": {"canary": {}}, "cni": {"enabled": True}}
    istio = {**base()["istio"], "charts": str(PROJECT / ".lab/charts"), **more, **remote}
    stack = parse(
        {**base(), "istio": istio, "eastWestGateway": {}, "ingressGateway": {"enabled": True}}, project_dir=tmp_path
    )
    charts = [chart for chart in asked_by(stack).charts if not chart["chart"].endswith("/base")]
    assert {Path(chart["chart"]).name for chart in charts} == {"cni", "gateway", "istiod"}
    objects = {json.dumps(obj): preset for chart in charts for obj in render(chart, KUBERNETES)}
    assert {"ConfigMap", "DaemonSet", "Deployment", "Service"} <= set(kinds(objects))
    assert judged(client, objects) == []


def test_the_server_refuses_what_is_wrong(client: Client) -> None:
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
