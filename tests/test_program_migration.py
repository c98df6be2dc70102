"""The whole program where a host's requests move between two subsets: the documented example, with a made-up mesh."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
import pytest
from recording import Run
from test_program import PROJECT, STACK, project, run_program

from arguments import migration as migrations
from migration.in_force import ANNOTATION
from migration.reader import Page, Sources
from settings.stack_file import load_yaml

__all__ = ["project"]

HOST = "billing.vm-apps.svc.cluster.local"
DOCUMENTED = re.search(r"```yaml\n(.*?)```", (PROJECT / "docs/migration.md").read_text(), re.DOTALL)
POD = {
    "metadata": {"name": "billing-7d4b", "labels": {"app": "billing", "version": "pods"}},
    "spec": {"containers": [{"name": "istio-proxy"}]},
    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
}
PAGE = 'envoy_cluster_upstream_rq{cluster_name="inbound|8080||",response_code_class="2xx"} 500\n'


class Mesh:
    """A cluster with one pod, and a VirtualService that gives it some share."""

    def __init__(self) -> None:
        self.in_force = 10
        self.asked: list[str] = []

    def get(self, path: str, seconds: float) -> Mapping[str, Any] | None:
        self.asked.append(path)
        record = json.dumps({"from": "vm", "to": "pods", "at": self.in_force, "requestsAndErrors": {}})
        shares = {"vm": 100 - self.in_force, "pods": self.in_force}
        routes = [{"destination": {"host": HOST, "subset": side}, "weight": share} for side, share in shares.items()]
        if "virtualservices" in path:
            return {"metadata": {"annotations": {ANNOTATION: record}}, "spec": {"http": [{"route": routes}]}}
        if "services" in path:
            ports = [{"name": "http", "port": 80, "targetPort": 8080}]
            return {"metadata": {"namespace": "vm-apps"}, "spec": {"selector": {"app": "billing"}, "ports": ports}}
        return {"items": [POD] if "pods" in path else []}

    def pod(self, namespace: str, name: str, seconds: float) -> Page:
        self.asked.append(name)
        return Page(text=PAGE)

    def vms(self, names: Sequence[str], seconds: float) -> Mapping[str, Page]:
        assert not names
        return {}


def documented(patch: pytest.MonkeyPatch) -> Mesh:
    """Put the documented rules into the stack, and the mesh into the program's place of it."""
    assert DOCUMENTED
    billing = STACK["workloads"]["billing"]
    workloads = {**STACK["workloads"], "billing": {**billing, "labels": {"app": "billing", "version": "v1"}}}
    patch.setitem(STACK, "workloads", workloads)
    patch.setitem(STACK, "traffic", load_yaml(DOCUMENTED[1])["istio-vm-mesh:traffic"])
    found = Mesh()
    sources = Sources(get=found.get, pod=found.pod, vms=found.vms)
    patch.setattr(migrations, "live_sources", lambda settings, client: sources)
    return found


@pytest.fixture
def mesh(project: Path, monkeypatch: pytest.MonkeyPatch) -> Mesh:
    return documented(monkeypatch)


@pytest.fixture(scope="module")
def stepped(project: Path) -> Run:
    """A run of one step."""
    with pytest.MonkeyPatch.context() as patch:
        documented(patch)
        return run_program()


def at(share: int, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = STACK["traffic"][HOST]
    moved = {**traffic, "migration": {**traffic["migration"], "at": share}}
    monkeypatch.setitem(STACK, "traffic", {HOST: moved})


def weights(done: Run) -> dict[str, int]:
    (rule,) = done[f"{HOST}-virtual-service"].inputs["spec"]["http"]
    return {route["destination"]["subset"]: route["weight"] for route in rule["route"]}


def record(done: Run) -> Any:
    return json.loads(done[f"{HOST}-virtual-service"].inputs["metadata"]["annotations"][ANNOTATION])


def subsets(done: Run) -> dict[str, Any]:
    rules = [r.inputs["spec"] for r in done.monitor.registered.values() if r.inputs.get("kind") == "DestinationRule"]
    return {subset["name"]: subset["labels"] for rule in rules for subset in rule["subsets"]}


def test_a_step(stepped: Run) -> None:
    assert weights(stepped) == {"vm": 80, "pods": 20}
    assert record(stepped) == {
        "from": "vm",
        "to": "pods",
        "at": 20,
        "requestsAndErrors": {"pod billing-7d4b": [500, 0]},
    }
    assert subsets(stepped) == {"vm": {"version": "v1"}, "pods": {"version": "pods"}}


def test_a_preview_of_a_step(mesh: Mesh) -> None:
    assert run_program(preview=True)[f"{HOST}-virtual-service"].inputs["metadata"]["annotations"][ANNOTATION] == (
        '{"from": "vm", "to": "pods", "at": 20, "requestsAndErrors": "known after up"}'
    )


@pytest.mark.parametrize("preview", [False, True])
def test_what_is_in_force_already_changes_nothing(mesh: Mesh, preview: bool) -> None:
    mesh.in_force = 20
    done = run_program(preview=preview)
    assert weights(done) == {"vm": 80, "pods": 20}
    assert record(done) == {"from": "vm", "to": "pods", "at": 20, "requestsAndErrors": {}}
    assert len(mesh.asked) == 1


@pytest.mark.parametrize("preview", [False, True])
def test_a_refused_step_ends_the_program_before_anything(mesh: Mesh, preview: bool) -> None:
    mesh.in_force = 9
    with pytest.raises(pulumi.RunError) as refused:
        run_program(preview=preview)
    assert str(refused.value) == (
        "a migration's step is not taken, and nothing has been changed:\n"
        f'  traffic["{HOST}"].migration.at: pods would go from 9 % to 20 %, by more than step, 10'
        " (got the number 20), at most 19 now"
    )


def test_the_end_leaves_nothing_of_the_other_side(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh.in_force = 90
    at(100, monkeypatch)
    done = run_program()
    assert weights(done) == {"pods": 100}
    assert subsets(done) == {"pods": {"version": "pods"}}
    assert not [name for name in done.names if name.startswith(f"{HOST}-vm-")]


def test_a_subset_goes_after_the_routes_to_it(stepped: Run) -> None:
    done = stepped
    for side in ("vm", "pods"):
        # An engine deletes last, and first what depends on something else that goes.
        assert done[f"{HOST}-{side}-unused"].dependency_names == {f"{HOST}-{side}-subset"}
        assert done[f"{HOST}-{side}-unused"].inputs == {"create": ":", "delete": "sleep 2"}
        assert f"{HOST}-{side}-subset" in done[f"{HOST}-virtual-service"].dependency_names
        metadata = done[f"{HOST}-{side}-subset"].inputs["metadata"]
        assert (metadata["name"], metadata["namespace"]) == (f"{side}.{HOST}", "vm-apps")
