"""Who needs a new token: decided from what the cluster holds, asked for with as few questions as will do."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest

from cluster.errors import ApiError
from cluster.objects import ENTRIES
from registration import credential_reader
from registration.credential_reader import Sources
from registration.credentials import (
    ASKED,
    BARE,
    BECAUSE,
    ENTRY,
    IDENTITY,
    MOVED,
    RAN_OUT,
    RENEW,
    UNUSED,
    USED,
    VM_LABEL,
    Holder,
    Wanted,
    certificate_seconds,
    secret_name,
)
from registration.ladder import DeclaredVm, Reachability

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
VM = DeclaredVm(name="billing-1", namespace="vm-apps", workload="billing", address="10.77.0.21", network="net1")
HOLDER = Holder(vm=VM, identity="spiffe://x at 10.77.0.21")
FORBIDDEN = 'the Kubernetes API gave no answer: Error from server (Forbidden): secrets is forbidden: User "reader"'


def thing(
    number: int = 1, *, vm: DeclaredVm = VM, hours: float = 30, used: str = "", **annotations: str
) -> dict[str, Any]:
    """The Secret of a VM's token, made so long ago."""
    annotations |= {USED: used} if used else {}
    return {
        "metadata": {
            "name": secret_name(vm.name, number),
            "namespace": vm.namespace,
            "labels": {VM_LABEL: vm.name},
            "annotations": {IDENTITY: HOLDER.identity, **annotations},
            "creationTimestamp": (NOW - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
    }


def entry(vm: DeclaredVm = VM) -> dict[str, Any]:
    annotations = {"istio.io/connectedAt": (NOW - timedelta(minutes=5)).isoformat()}
    metadata = {"name": f"{vm.workload}-{vm.address}-net1", "namespace": vm.namespace, "annotations": annotations}
    return {"metadata": metadata, "spec": {"address": vm.address}}


def istiod(minutes: float = 10, ready: str = "True") -> dict[str, Any]:
    since = (NOW - timedelta(minutes=minutes)).isoformat()
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": since}
    return {"metadata": {"name": "istiod-1"}, "status": {"phase": "Running", "conditions": [condition]}}


class World:
    """A cluster and a network."""

    def __init__(
        self,
        secrets: Iterable[Mapping[str, Any]] | str = (),
        entries: Iterable[Mapping[str, Any]] = (),
        istiods: Iterable[Mapping[str, Any]] = (istiod(),),
        answering: bool = True,
    ) -> None:
        self.objects = {"secrets": secrets, ENTRIES: entries, "pods": istiods}
        self.answering = answering
        self.asked: list[str] = []
        self.probed: list[str] = []

    def get(self, path: str) -> Mapping[str, Any]:
        kind = path if path == ENTRIES else path.split("?")[0].rsplit("/", 1)[1]
        self.asked.append(kind)
        if kind == "secrets":
            assert unquote(path) == f"/api/v1/namespaces/vm-apps/{kind}?labelSelector=istio-vm-mesh/vm"
        found = self.objects[kind]
        if isinstance(found, str):
            raise ApiError(found, status=403 if found == FORBIDDEN else None)
        return {"items": list(found)}

    def probe(self, address: str, port: int) -> Reachability:
        self.probed.append(f"{address}:{port}")
        return Reachability(reachable=self.answering)

    def wanted(self, *holders: Holder, minutes: int = 60) -> dict[str, Wanted]:
        return credential_reader.read(holders, 60 * minutes, Sources(get=self.get, probe=self.probe, now=lambda: NOW))

    def one(self, holder: Holder = HOLDER) -> Wanted:
        """Which token a VM is to have, and why."""
        return replace(self.wanted(holder)["billing-1"], used="", unseen=False)


SAME = Wanted(number=1)


def test_a_new_vm_gets_its_first_token() -> None:
    assert World().one() == SAME


def test_a_vm_of_another_name_gets_its_first_token_and_the_plan_says_so() -> None:
    before = thing(vm=replace(VM, name="billing-0"), **{ENTRY: "billing-10.77.0.21-net1"})
    told = Wanted(number=1, because="its machine is in the mesh as billing-0, which leaves")
    assert World([before]).one() == told
    made = thing(hours=0.1, **{ENTRY: "billing-10.77.0.21-net1", BECAUSE: told.because})
    assert World([before, made]).one() == World([made]).one() == told, "and goes on to say so"
    stays = Holder(vm=replace(VM, name="billing-0"), identity=HOLDER.identity)
    assert World([before]).wanted(HOLDER, stays)["billing-1"].because == ""
    assert World([thing(vm=replace(VM, name="billing-2"), **{ENTRY: "billing-10.77.0.22-net1"})]).one() == SAME
    assert World([thing(vm=replace(VM, name="billing-2"))]).one() == SAME


@pytest.mark.parametrize(
    ("world", "what"),
    [
        (World([thing(used="r")], entries=[entry()]), "connected"),
        (World([thing(used="r")], answering=False), "it could not be brought there"),
        (World([thing(used="r")], istiods=[]), "istiod is down"),
        (World([thing(used="r")], istiods=[istiod(ready="False")]), "istiod is not ready"),
        (World([thing(used="r")], istiods=[istiod(minutes=0.5)]), "istiod has just started"),
        (World([thing(hours=22.9, used="r")]), "used, and its certificate holds"),
        (World([thing(hours=0.9)]), "not used yet, and good"),
        (World([thing(hours=30)], entries=[entry()]), "not confirmed, but connected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_where_there_is_no_need_the_token_stays(world: World, what: str) -> None:
    assert world.one() == SAME


@pytest.mark.parametrize(
    ("world", "because"),
    [
        (World([thing(hours=23.1, used="r")]), RAN_OUT),
        (World([thing(hours=1.1)]), UNUSED),
        (World([thing(2, hours=1.1), thing(1, used="r")]), UNUSED),
    ],
)
def test_a_vm_that_is_cut_off_gets_a_new_one_where_it_could_not_come_back(world: World, because: str) -> None:
    number = len(list(world.objects["secrets"])) + 1
    assert world.one() == Wanted(number=number, because=because)
    assert world.probed == ["10.77.0.21:22"]


def test_a_short_certificate_is_about_to_run_out_at_half_of_its_life() -> None:
    holder = replace(HOLDER, certificate_seconds=120)
    assert World([thing(hours=61 / 3600, used="r")]).one(holder).because == RAN_OUT
    assert World([thing(hours=59 / 3600, used="r")]).one(holder) == SAME


def test_what_the_vm_itself_says_of_its_certificate_goes_first() -> None:
    later, soon = ((NOW + timedelta(hours=hours)).isoformat() for hours in (1.1, 0.9))
    assert World([thing(used="r")]).one(replace(HOLDER, certificate_until=later)) == SAME
    assert World([thing(used="r")]).one(replace(HOLDER, certificate_until=soon)).because == RAN_OUT
    assert World([thing(used="r")], entries=[entry()]).one(replace(HOLDER, bare=True)) == Wanted(number=2, because=BARE)
    assert World([thing(hours=0.9)]).one(replace(HOLDER, bare=True)) == SAME, "the token is still good"
    assert World().one(replace(HOLDER, bare=True)) == SAME, "a new VM"


def test_a_vm_that_has_lost_its_certificate_gets_another_token_of_a_secret_that_is_young() -> None:
    world = World([thing(hours=0.9, used="r")])
    assert world.wanted(HOLDER)["billing-1"].used == "r"
    assert world.wanted(replace(HOLDER, bare=True))["billing-1"] == Wanted(number=1, used="")


def test_an_entry_without_a_connection_is_none() -> None:
    gone = entry()
    gone["metadata"]["annotations"] = {"istio.io/disconnectedAt": NOW.isoformat()}
    assert World([thing(used="r")], entries=[gone]).one().because == RAN_OUT


def test_a_connection_to_an_istiod_that_is_gone_is_none() -> None:
    stale = entry()
    stale["metadata"]["annotations"]["istio.io/connectedAt"] = (NOW - timedelta(hours=1)).isoformat()
    stale["metadata"]["annotations"]["istio.io/workloadController"] = "istiod-0"
    world = World([thing(used="r")], entries=[stale])
    assert world.one().because == RAN_OUT
    assert world.asked.count("pods") == 1
    stale["metadata"]["annotations"]["istio.io/workloadController"] = "istiod-1"
    assert World([thing(used="r")], entries=[stale]).one() == SAME


def test_another_identity_gets_another_token_whether_it_answers_or_not() -> None:
    moved = replace(HOLDER, identity="spiffe://y at 10.77.0.21")
    assert World([thing(hours=0)], answering=False).one(moved) == Wanted(number=2, because=MOVED)
    old = thing(hours=0)
    del old["metadata"]["annotations"][IDENTITY]
    assert World([old]).one(moved) == SAME


def test_a_name_under_renew_counts_once_until_it_has_been_taken_out() -> None:
    asks = replace(HOLDER, renew=True)
    named, noted = thing(hours=0), thing(2, hours=0, **{RENEW: "true", BECAUSE: ASKED})
    second = Wanted(number=2, because=ASKED)
    assert World([named]).one(asks) == second
    assert World([named, noted]).one(asks) == second
    assert World([noted]).one(asks) == second, "it stays in the list"
    assert World([noted]).one() == second, "it is taken out"
    del noted["metadata"]["annotations"][RENEW]
    assert World([noted]).one(asks) == Wanted(number=3, because=ASKED)


def test_of_a_token_it_is_known_whether_it_was_used_and_of_none_that_none_was_seen() -> None:
    """A new VM's Secret was not seen, nor one that was deleted by hand, nor any by who may not read them."""
    assert World([thing(used="r")], entries=[entry()]).wanted(HOLDER)["billing-1"] == Wanted(number=1, used="r")
    assert World([thing(2, used="r")]).wanted(replace(HOLDER, renew=True))["billing-1"].used == ""
    for world in (World(), World(FORBIDDEN)):
        assert world.wanted(HOLDER)["billing-1"] == Wanted(number=1, unseen=True)
    asks = replace(HOLDER, renew=True)
    assert World(FORBIDDEN).wanted(asks)["billing-1"] == Wanted(number=1, unseen=True)
    assert World().wanted(asks)["billing-1"] == Wanted(number=20261121, because=ASKED), "a number that none had"


def test_a_secret_that_is_going_is_none() -> None:
    going = thing()
    going["metadata"]["deletionTimestamp"] = NOW.isoformat()
    assert World([going]).wanted(HOLDER)["billing-1"].unseen


def test_names_that_begin_alike_are_told_apart() -> None:
    other = replace(VM, name="billing-1-2", address="10.77.0.22")
    world = World([thing(vm=other, number=4, hours=0), thing(hours=0)])
    found = world.wanted(HOLDER, replace(HOLDER, vm=other))
    assert {name: token.number for name, token in found.items()} == {"billing-1": 1, "billing-1-2": 4}


def test_it_asks_no_more_than_it_must() -> None:
    fresh, old, off = World([thing(hours=0.5)]), World([thing()], entries=[entry()]), World([thing(used="r")])
    for world in (fresh, old, off):
        world.one()
    assert fresh.asked == ["secrets"]
    assert old.asked == ["secrets", ENTRIES]
    assert sorted(off.asked) == sorted({"secrets", ENTRIES, "pods"}), "each once"
    many = [replace(HOLDER, vm=replace(VM, name=f"vm-{n}", address=f"10.77.0.{n}")) for n in range(50)]
    world = World([thing(vm=holder.vm) for holder in many], entries=[entry(holder.vm) for holder in many])
    world.wanted(*many)
    assert (len(world.asked), world.probed) == (2, [])


def test_no_answer_is_an_error() -> None:
    with pytest.raises(ApiError, match="connection refused"):
        World("the Kubernetes API gave no answer: connection refused").one()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 86400), ("24h0m0s", 86400), ("2m", 120), ("1.5h", 5400), ("90s500ms", 90), ("soon", 86400), ("1h x", 86400)],
)
def test_the_life_of_a_certificate(text: str, seconds: int) -> None:
    assert certificate_seconds(text) == seconds
