"""A VM's WorkloadEntry: what is asked of the cluster around a change."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from waiting import wait_for

from cluster.client import Client
from components import entry
from components.entry import EntryArgs, back_or_why_not, leave, remember_attempt
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
    given = {"vm": "billing-1", "address": "10.77.0.21", "group": GROUP, "healthy_within": 0}
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
