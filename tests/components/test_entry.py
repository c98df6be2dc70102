"""A VM's WorkloadEntry: what is asked of the cluster around a change, and what is run when the VM leaves."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_for

from cluster.client import Client
from components import entry
from components.entry import EntryArgs, back_or_why_not, entry_commands, leave, remember_attempt, withdraw
from components.kubectl import ClusterAccess
from registration.comeback import Seen

GROUP: dict[str, Any] = {
    "metadata": {"name": "billing", "namespace": "vm-apps"},
    "spec": {
        "metadata": {"labels": {"app": "billing"}},
        "template": {"serviceAccount": "billing", "network": "net1"},
        "probe": {"httpGet": {"port": 8080}},
    },
}
PATH = "/apis/networking.istio.io/v1/namespaces/vm-apps/workloadentries/billing-10.77.0.21-net1"


def place(**changes: Any) -> EntryArgs:
    given = {"access": ClusterAccess(), "vm": "billing-1", "address": "10.77.0.21", "group": GROUP, "healthy_within": 0}
    return EntryArgs(**{**given, **changes})


def registered(configuration: str) -> dict[str, Any]:
    return {
        "metadata": {
            "labels": {"istio-vm-mesh/configuration": configuration},
            "annotations": {"istio.io/connectedAt": "2026-11-21T11:00:00Z"},
        },
        "status": {"conditions": [{"type": "Healthy", "status": "True"}]},
    }


class Answers(Client):
    """Gives one answer after the other, the last one for ever, and notes what it was asked."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(None, None)
        self.answers: Sequence[Any] = answers
        self.asked: list[str] = []

    def get(self, path: str) -> dict[str, Any] | None:
        answer, self.answers = self.answers[0], self.answers[1:] or self.answers
        self.asked.append(f"get {path}")
        return answer if answer is None else dict(answer)

    def patch(self, path: str, body: Any) -> dict[str, Any]:
        self.asked.append(f"patch {path} {json.dumps(body)}")
        return {}

    def delete(self, path: str, selector: str = "") -> None:
        self.asked.append(f"delete {path}{selector}")


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, which take no time."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(entry.asyncio, "sleep", sleep)
    return pauses


def test_a_vm_leaves_unless_it_has_the_configuration_already(slept: list[float]) -> None:
    """Who was in the mesh is waited for until nobody sends it requests."""
    for found, goes in ((None, False), (registered("c1"), False), (registered("c0"), True), ({"metadata": {}}, True)):
        slept.clear()
        client = Answers(found)
        wait_for(leave(client, place(), "c1"))
        assert client.asked == [f"get {PATH}", *([f"delete {PATH}"] if goes else [])]
        assert slept == ([2] if goes else [])


def test_a_vm_is_waited_for_until_it_is_back(slept: list[float]) -> None:
    client = Answers(None, None, registered("c1"))
    assert wait_for(back_or_why_not(client, place(healthy_within=60), "c1")) == (Seen.BACK, "")
    assert (len(client.asked), slept) == (3, [1.0, 1.0])


def test_a_vm_that_has_registered_as_it_was_is_not_waited_for(slept: list[float]) -> None:
    found = wait_for(back_or_why_not(Answers(registered("c0")), place(healthy_within=60), "c1"))
    assert (found, slept) == ((Seen.OTHER, ""), [])


def test_why_a_vm_is_not_back_in_time_is_returned(slept: list[float]) -> None:
    found = wait_for(back_or_why_not(Answers(None), place(), "c1"))
    assert found == (Seen.NOT_YET, "it has no WorkloadEntry after 0 s")


def test_the_group_remembers_what_its_vm_went_back_from() -> None:
    client = Answers()
    wait_for(remember_attempt(client, place(), "c1.2"))
    assert client.asked == [
        "patch /apis/networking.istio.io/v1/namespaces/vm-apps/workloadgroups/billing "
        '{"metadata": {"annotations": {"went-back.istio-vm-mesh/billing-1": "c1.3"}}}'
    ]


def test_what_an_entry_takes_from_its_group_shows_in_a_plan() -> None:
    inputs = entry_commands(place(labels={"version": "v2"}), {"SECRET": "vm-apps/x"})
    assert json.loads(inputs["stdin"])["labels"] == {"app": "billing", "version": "v2"}
    assert inputs["environment"] == {"ENTRY": "vm-apps/billing-10.77.0.21-net1", "SECRET": "vm-apps/x"}
    assert inputs["create"] == ":"
    assert "e=workloadentries.networking.istio.io/billing-10.77.0.21-net1\n" in inputs["delete"]


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Run a command; kubectl prints what it is told to for each of its verbs, and notes how it was called."""
    find_verb = "for verb; do case $verb in get | delete) break ;; esac; done"
    (tmp_path / "kubectl").write_text(
        f'#!/bin/sh\n{find_verb}\necho "$@" >>{tmp_path}/calls\ncat {tmp_path}/$verb 2>/dev/null\n'
        f"[ ! -e {tmp_path}/down ]\n"
    )
    (tmp_path / "sleep").write_text(f"#!/bin/sh\necho sleep $1 >>{tmp_path}/calls\n")
    for program in ("kubectl", "sleep"):
        (tmp_path / program).chmod(0o755)

    def act(command: str, **answers: str) -> tuple[int, str, str]:
        for verb, text in answers.items():
            (tmp_path / verb).write_text(text)
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True)
        calls = tmp_path / "calls"
        return done.returncode, done.stdout, calls.read_text() if calls.exists() else ""

    return act


def test_a_vm_that_leaves_is_forgotten_before_its_sidecar_stops(run: Any) -> None:
    code, _, calls = run(withdraw(place()))
    assert code == 0
    assert calls.splitlines()[-1] == "sleep 2"
    assert " delete workloadentries.networking.istio.io/billing-10.77.0.21-net1 " in calls


def test_an_entry_that_came_again_while_its_vm_drained_goes_after_that(run: Any) -> None:
    delete = entry_commands(place(), {})["delete"]
    code, _, calls = run(delete)
    asked, revoked = calls.splitlines()
    assert code == 0, "mostly there is none, and one question shows it"
    assert " get workloadentries.networking.istio.io/billing-10.77.0.21-net1 " in asked
    assert revoked.endswith(" delete secrets -l istio-vm-mesh/vm=billing-1")


def test_an_entry_that_is_another_vms_by_now_stays(run: Any) -> None:
    for command in (withdraw(place()), entry_commands(place(), {})["delete"]):
        code, printed, calls = run(command, get="billing-x")
        assert (code, printed) == (0, "left alone: it is billing-x by now\n")
        assert " delete workloadentries" not in calls
        assert "-l istio-vm-mesh/vm,istio-vm-mesh/vm!=billing-1 " in calls


def test_nothing_is_deleted_where_the_cluster_gives_no_answer(run: Any, tmp_path: Path) -> None:
    (tmp_path / "down").touch()
    code, _, calls = run(withdraw(place()))
    assert code == 1
    assert " delete " not in calls
