"""What `ip` is told, as data."""

from lab import network
from lab.network import Batch
from lab.spec import ClusterSpec, LabSpec, VmSpec

VM = VmSpec(name="billing-1", address="10.77.0.21")


def test_a_vm_that_is_not_routed_reaches_the_switch_only() -> None:
    assert network.vm_leg(VmSpec(name="a", address="10.77.0.40", routed=False)).routes == ("default via 10.77.0.5",)


def test_a_vm_reaches_pods_and_services_through_the_node_and_nothing_else() -> None:
    assert network.cable_plan([network.vm_leg(VM)]) == (
        Batch(
            None,
            (
                "link add port21 netns ivm-switch type veth peer name eth0 address 02:4d:0a:4d:00:15"
                " netns ivm-billing-1",
            ),
        ),
        Batch("ivm-switch", ("link set port21 master br0 up",)),
        Batch(
            "ivm-billing-1",
            (
                "link set lo up",
                "addr add 10.77.0.21/24 dev eth0",
                "link set eth0 up",
                "route add 10.244.0.0/16 via 10.77.0.10",
                "route add 10.96.0.0/16 via 10.77.0.10",
                "route add default via 10.77.0.5",
            ),
        ),
    )


def test_the_machine_gets_one_address_and_no_route() -> None:
    assert network.cable_plan([network.machine_leg()])[2] == Batch(
        None, ("addr add 10.77.0.254/24 dev ivm-host", "link set ivm-host up")
    )
    assert not network.machine_leg().forwards


def test_who_leaves_the_lab_is_refused_at_once() -> None:
    assert network.mirror_leg().routes == ("unreachable default",)
    assert network.mirror_leg().forwards


def test_a_large_lab_has_distinct_ports_addresses_and_namespaces() -> None:
    legs = network.legs(LabSpec.of_size(179, 2))
    assert len(legs) == 179 + 2 + 2
    for attribute in ("port", "mac", "address", "namespace"):
        assert len({getattr(leg, attribute) for leg in legs}) == len(legs)
    assert all(len(leg.port) < 16 for leg in legs)


def test_all_cables_are_made_in_one_batch() -> None:
    batches = network.cable_plan(network.legs(LabSpec.of_size(50)))
    assert [len(batch.lines) for batch in batches[:2]] == [53, 53]


def test_only_the_lab_s_own_interface_may_use_the_range() -> None:
    own, default = {"dst": "10.77.0.0/24", "dev": "ivm-host"}, {"dst": "default", "dev": "eth0"}
    assert network.conflicts([own, default]) == []
    assert network.conflicts([own, {"dst": "10.77.0.128/25", "dev": "tun0"}]) == ["tun0"]


def test_processes_join_the_network_namespace_only() -> None:
    assert network.inside(ClusterSpec(2).namespace, "/bin/true") == [
        *("/usr/bin/nsenter", "--net=/run/netns/ivm-node2", "--", "/bin/true"),
    ]
