"""Which Service gets which address."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lab.loadbalancer import HOST_NAME, assign, interface_changes, point

POOL = ("10.77.0.200", "10.77.0.201", "10.77.0.202")


def service(
    name: str, *, kind: str = "LoadBalancer", ip: str = "", wants: str = "", gone: bool = False
) -> dict[str, Any]:
    metadata = {"namespace": "n", "name": name} | ({"deletionTimestamp": "now"} if gone else {})
    status = {"loadBalancer": {"ingress": [{"ip": ip}]} if ip else {}}
    return {"metadata": metadata, "spec": {"type": kind, "loadBalancerIP": wants}, "status": status}


def test_a_service_keeps_its_address_and_a_new_one_gets_the_lowest_free() -> None:
    services = [service("a"), service("b", ip=POOL[0]), service("c", kind="ClusterIP")]
    assert assign(services, POOL) == {("n", "a"): POOL[1], ("n", "b"): POOL[0]}


def test_a_wish_is_granted_unless_somebody_has_the_address() -> None:
    assert assign([service("a", wants=POOL[2])], POOL) == {("n", "a"): POOL[2]}
    services = [service("a", wants=POOL[2]), service("b", ip=POOL[2])]
    assert assign(services, POOL) == {("n", "a"): POOL[0], ("n", "b"): POOL[2]}
    assert assign([service("a", wants="10.0.0.1")], POOL) == {("n", "a"): POOL[0]}


def test_a_deleted_service_gives_its_address_back() -> None:
    assert assign([service("a", ip=POOL[0], gone=True), service("b")], POOL) == {("n", "b"): POOL[0]}


def test_a_service_that_asks_for_a_name_shows_only_that() -> None:
    plain = service("a", ip=POOL[0])
    assert point(plain, POOL[0]) == {"ip": POOL[0]}
    named = {**plain, "metadata": plain["metadata"] | {"annotations": {HOST_NAME: "lb.lab"}}}
    assert point(named, POOL[0]) == {"hostname": "lb.lab"}


def test_a_foreign_address_in_a_status_is_replaced() -> None:
    assert assign([service("a", ip="192.0.2.1")], POOL) == {("n", "a"): POOL[0]}


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.sampled_from(("", *POOL)), st.sampled_from(("", *POOL))),
        unique_by=lambda t: t[0],
    )
)
def test_no_address_is_given_twice_and_none_is_left_unused(drawn: list[tuple[str, str, str]]) -> None:
    given_out = assign([service(name, ip=ip, wants=wants) for name, ip, wants in drawn], POOL)
    assert len(set(given_out.values())) == len(given_out) == min(len(drawn), len(POOL))
    settled = [service(name, ip=address) for (_, name), address in given_out.items()]
    assert assign(settled, POOL) == given_out


def test_only_the_pool_s_addresses_are_touched_on_the_interface() -> None:
    present = ["10.77.0.10", POOL[0], POOL[1]]
    assert interface_changes(present, [POOL[1], POOL[2]], POOL) == [("add", POOL[2]), ("del", POOL[0])]
