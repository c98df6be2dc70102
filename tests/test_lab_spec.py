"""Names, addresses and ranges that follow from a lab's sizes."""

import ipaddress
import re

import pytest

from lab.errors import LabError
from lab.spec import SWITCH_NETWORK, ClusterSpec, LabSpec, VmSpec


def vm(name: str = "billing-1", address: str = "10.77.0.21") -> VmSpec:
    return VmSpec(name=name, address=address)


def test_the_default_lab_is_the_dev_stack() -> None:
    assert [(v.name, v.address) for v in LabSpec().vms] == [("billing-1", "10.77.0.21"), ("billing-2", "10.77.0.22")]
    assert [c.name for c in LabSpec().cluster_specs] == ["cluster1"]


def test_the_first_cluster_has_the_fixed_addresses() -> None:
    cluster = ClusterSpec(1)
    assert (cluster.node, cluster.namespace, cluster.address) == ("node1", "ivm-node1", "10.77.0.10")
    assert (cluster.pod_range, cluster.service_range) == ("10.244.0.0/16", "10.96.0.0/16")
    assert (cluster.dns_address, cluster.api_service_address) == ("10.96.0.53", "10.96.0.1")
    assert cluster.load_balancer_addresses[0] == "10.77.0.200"
    assert cluster.process("etcd") == "etcd"


def test_two_clusters_share_nothing() -> None:
    one, two = ClusterSpec(1), ClusterSpec(2)
    for attribute in ("name", "node", "namespace", "address", "server", "data", "run", "pki", "containerd_socket"):
        assert getattr(one, attribute) != getattr(two, attribute)
    for attribute in ("pod_range", "service_range"):
        assert not ipaddress.ip_network(getattr(one, attribute)).overlaps(ipaddress.ip_network(getattr(two, attribute)))
    assert not set(one.load_balancer_addresses) & set(two.load_balancer_addresses)
    assert one.process("etcd") != two.process("etcd")


def test_every_address_lies_in_its_range() -> None:
    for cluster in LabSpec(clusters=2).cluster_specs:
        services = ipaddress.ip_network(cluster.service_range)
        assert ipaddress.ip_address(cluster.dns_address) in services
        assert ipaddress.ip_address(cluster.api_service_address) == services[1]
        assert ipaddress.ip_network(cluster.node_pod_range).subnet_of(ipaddress.ip_network(cluster.pod_range))
        for address in (cluster.address, *cluster.load_balancer_addresses):
            assert ipaddress.ip_address(address) in SWITCH_NETWORK


@pytest.mark.parametrize(
    ("vms", "clusters", "message"),
    [
        ((vm(), vm(address="10.77.0.30")), 1, "VM name billing-1 is given twice"),
        ((vm(), vm("billing-2")), 1, "VM address 10.77.0.21 is given twice"),
        ((vm("Billing"),), 1, "VM name 'Billing': lower case letters, digits and '-', at most 40"),
        ((vm("node1"),), 1, "VM name 'node1' is taken by a part of the lab"),
        ((vm(address="10.77.0.10"),), 1, "VM billing-1: address 10.77.0.21 to 10.77.0.199 (got 10.77.0.10)"),
        ((vm(address="10.77.0.200"),), 1, "VM billing-1: address 10.77.0.21 to 10.77.0.199 (got 10.77.0.200)"),
        ((vm(address="here"),), 1, "VM billing-1: address 10.77.0.21 to 10.77.0.199 (got here)"),
        ((vm("node2", "10.9.9.9"),), 3, "VM name 'node2' is taken by a part of the lab; "
         "VM node2: address 10.77.0.21 to 10.77.0.199 (got 10.9.9.9); clusters: 1 to 2 (got 3)"),
    ],
)  # fmt: skip
def test_a_wrong_spec_is_refused(vms: tuple[VmSpec, ...], clusters: int, message: str) -> None:
    with pytest.raises(LabError, match=f"^{re.escape(message)}$"):
        LabSpec(vms=vms, clusters=clusters)


def test_sizes() -> None:
    spec = LabSpec.of_size(50, 2)
    assert len(spec.vms) == 50
    assert spec.vms[49] == vm("billing-50", "10.77.0.70")
    assert LabSpec.of_size(2) == LabSpec()
    with pytest.raises(LabError, match=r"^vms: 0 to 179 \(got 180\)$"):
        LabSpec.of_size(180)


def test_json_keeps_everything() -> None:
    spec = LabSpec(vms=(VmSpec(name="a", address="10.77.0.99", version="v2"),), clusters=2)
    assert LabSpec.from_json(spec.to_json()) == spec


def test_a_running_lab_only_grows() -> None:
    running = LabSpec(vms=(vm(), vm("extra", "10.77.0.50")), clusters=2)
    assert running.joined(LabSpec()).vms == (*running.vms, vm("billing-2", "10.77.0.22"))
    assert running.joined(LabSpec()).clusters == 2
    assert LabSpec().joined(LabSpec()) == LabSpec()
    with pytest.raises(LabError, match="VM name billing-1 is given twice"):
        LabSpec().joined(LabSpec(vms=(vm(address="10.77.0.60"),)))


def test_an_unknown_vm_is_named_with_those_there_are() -> None:
    with pytest.raises(LabError, match=r"^no VM x in this lab \(there are: billing-1, billing-2\)$"):
        LabSpec().vm("x")
