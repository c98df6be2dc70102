"""A VM's WorkloadEntry: the commands around a change, run by a shell against a kubectl that is made up."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components import entry
from components.entry import EntryArgs, come_back, entry_commands, leave, returned, withdraw
from components.kubectl import ClusterAccess

GROUP: dict[str, Any] = {
    "metadata": {"name": "billing", "namespace": "vm-apps"},
    "spec": {
        "metadata": {"labels": {"app": "billing"}},
        "template": {"serviceAccount": "billing", "network": "net1"},
        "probe": {"httpGet": {"port": 8080}},
    },
}


def place(**changes: Any) -> EntryArgs:
    given = {"access": ClusterAccess(), "vm": "billing-1", "address": "10.77.0.21", "group": GROUP, "healthy_within": 0}
    return EntryArgs(**{**given, **changes})


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command; kubectl prints what it is told to for each of its verbs, and notes how it was called."""
    monkeypatch.setattr(entry, "FORGOTTEN_SECONDS", 0)
    (tmp_path / "kubectl").write_text(
        f'#!/bin/sh\nverb=$2\necho "$@" >>{tmp_path}/calls\ncat {tmp_path}/$verb 2>/dev/null\n'
        f"[ ! -e {tmp_path}/down ]\n"
    )
    (tmp_path / "kubectl").chmod(0o755)

    def act(command: str, **answers: str) -> tuple[int, str, str]:
        for verb, text in answers.items():
            (tmp_path / verb).write_text(text)
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True)
        calls = tmp_path / "calls"
        return done.returncode, done.stdout, calls.read_text() if calls.exists() else ""

    return act


def test_what_an_entry_takes_from_its_group_shows_in_a_plan() -> None:
    inputs = entry_commands(place(labels={"version": "v2"}))
    assert json.loads(inputs["stdin"])["labels"] == {"app": "billing", "version": "v2"}
    assert inputs["triggers"] == ["vm-apps/billing-10.77.0.21-net1"]
    assert " delete workloadentries.networking.istio.io billing-10.77.0.21-net1 " in inputs["delete"]


@pytest.mark.parametrize(
    ("said", "waits"),
    [("workloadentry.networking.istio.io/billing-10.77.0.21-net1", True), ("No resources found", False)],
)
def test_a_vm_leaves_unless_it_has_the_configuration_already(run: Any, tmp_path: Path, said: str, waits: bool) -> None:
    (tmp_path / "sleep").write_text(f"#!/bin/sh\necho sleep $1 >>{tmp_path}/calls\n")
    (tmp_path / "sleep").chmod(0o755)
    code, _, calls = run(leave(place(), "c1"), delete=said)
    assert code == 0
    assert "--field-selector=metadata.name=billing-10.77.0.21-net1" in calls
    assert "--selector=istio-vm-mesh/configuration!=c1" in calls
    assert ("sleep " in calls) == waits


def test_an_entry_goes_with_its_vm(run: Any) -> None:
    for command in (entry_commands(place())["delete"], withdraw(place())):
        code, printed, calls = run(command)
        assert (code, printed) == (0, "")
        assert "get secrets --namespace=vm-apps --selector=istio-vm-mesh/vm,istio-vm-mesh/vm!=billing-1 " in calls
        assert '(@.metadata.annotations.istio-vm-mesh/entry=="billing-10.77.0.21-net1")' in calls
        assert calls.endswith(
            " delete workloadentries.networking.istio.io billing-10.77.0.21-net1"
            " --namespace=vm-apps --ignore-not-found --wait=false\n"
        )


def test_an_entry_that_another_vm_has_by_now_stays(run: Any) -> None:
    for command in (entry_commands(place())["delete"], withdraw(place())):
        code, printed, calls = run(command, get="billing-9")
        assert (code, printed) == (0, "left alone: it is billing-9 by now\n")
        assert "delete" not in calls


def test_an_entry_stays_where_nobody_knows_whose_it_is(run: Any, tmp_path: Path) -> None:
    (tmp_path / "down").touch()
    for command in (entry_commands(place())["delete"], withdraw(place())):
        code, _, calls = run(command)
        assert code == 1
        assert "delete" not in calls


def test_a_vm_does_not_leave_where_nobody_knows_whether_it_has(run: Any, tmp_path: Path) -> None:
    (tmp_path / "down").touch()
    assert run(leave(place(), "c1"))[0] == 1
    assert run(come_back(place(), "c1"))[0] == 1


def test_a_vm_is_back_once_its_entry_says_so(run: Any) -> None:
    assert run(come_back(place(), "c1"), get="c1/True/2026-11-21T11:00:00Z/")[:2] == (0, "")


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ("", "it has no WorkloadEntry after 0 s"),
        ("c1//2026/", "its sidecar has not told whether the application is healthy"),
        ("c1/False/2026/Get http://x/healthz: refused", "it is unhealthy after 0 s: Get http://x/healthz: refused"),
        ("c1/True//", "its sidecar has lost istiod again"),
    ],
)
def test_why_a_vm_is_not_back_is_printed_and_remembered(run: Any, seen: str, told: str) -> None:
    code, printed, calls = run(come_back(place(), "c1"), get=seen)
    assert (code, printed) == (0, told + "\n")
    assert "workloadgroups.networking.istio.io billing --namespace=vm-apps --overwrite" in calls
    assert "went-back.istio-vm-mesh/billing-1=c1.1" in calls
    assert (
        "went-back.istio-vm-mesh/billing-1=c1.3" in run(come_back(place(), "c1.2"), get=seen.replace("c1", "c1.2"))[2]
    )


@pytest.mark.parametrize("seen", ["c0/True/2026/", "c0//", "/True/2026/"])
def test_a_vm_that_has_registered_as_it_was_loses_its_entry_and_starts_again(run: Any, seen: str) -> None:
    code, printed, calls = run(come_back(place(), "c1"), get=seen, delete="workloadentry/billing-10.77.0.21-net1")
    assert code == 0
    assert re.fullmatch(r"anew: it was registered with another configuration at 20\S+Z\n", printed)
    assert calls.count(" delete ") == 1
    assert "--field-selector=metadata.name=billing-10.77.0.21-net1" in calls
    assert "--selector=istio-vm-mesh/configuration!=c1" in calls, "one with the right configuration stays"
    assert "went-back" not in calls


def test_nobody_waits_again_for_a_vm_that_has_not_started_twice(run: Any) -> None:
    assert run(f"(\n{returned(place(), 'c1')}\n) </dev/null") == (0, "", "")


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ("c1/True/2026/", ""),
        ("", "it has no WorkloadEntry after 0 s"),
        ("c0/True/2026/", "it is registered with another configuration"),
    ],
)
def test_a_vm_that_has_started_twice_is_waited_for_again(run: Any, seen: str, told: str) -> None:
    code, printed, calls = run(f"echo anew | (\n{returned(place(), 'c1')}\n) 2>&1", get=seen)
    assert printed == (f"VM billing-1 is not back in the mesh: {told}; run up again\n" if told else "")
    assert code == (1 if told else 0)
    assert ("went-back.istio-vm-mesh/billing-1=c1.1" in calls) == bool(told)
    assert " delete " not in calls


def test_without_a_probe_a_vm_is_back_once_it_is_connected(run: Any) -> None:
    group = {**GROUP, "spec": {**GROUP["spec"], "probe": None}}
    assert "Healthy" not in come_back(place(group=group), "c1").split("/True/", 1)[0]
    assert run(come_back(place(group=group), "c1"), get="c1/True/2026/")[:2] == (0, "")
