"""The WorkloadGroup, the Service over it, and what a VM takes from both."""

from typing import Any

import pulumi
import pytest
from recording import run

from components.policies import UNSEEN_BY_ANALYZE, Access
from components.workload import (
    StaticVm,
    Workload,
    WorkloadArgs,
    group_of_vm,
    guard_args,
    service_selector,
    service_spec,
    spiffe_identity,
    static_entry,
    workload_group,
)
from hosts.registered import RegisteredEntry

PROBE = {"httpGet": {"path": "/healthz", "port": 8080}}


def arguments(**changes: Any) -> WorkloadArgs:
    given: dict[str, Any] = {
        "namespace": "vm-apps",
        "service_account": "billing",
        "trust_domain": "cluster.local",
        "network": "net1",
        "labels": {"app": "billing", "version": "v1"},
        "ports": {"http": 8080},
        "probe": PROBE,
        "host": "billing.vm-apps.svc.cluster.local",
        "service_ports": {"http": 80},
    }
    return WorkloadArgs(**{**given, **changes})


def test_workload_group() -> None:
    assert workload_group("billing", arguments(annotations={"proxy.istio.io/config": "{}"})) == {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadGroup",
        "metadata": {"name": "billing", "namespace": "vm-apps"},
        "spec": {
            "metadata": {
                "labels": {"app": "billing", "version": "v1"},
                "annotations": {"proxy.istio.io/config": "{}"},
            },
            "template": {"serviceAccount": "billing", "network": "net1", "ports": {"http": 8080}},
            "probe": PROBE,
        },
    }


def vms(count: int, **labels: str) -> dict[str, RegisteredEntry]:
    return {
        f"10.0.{n // 256}.{n % 256}": RegisteredEntry(
            labels={"app": "billing", "vm": labels.get("vm", f"billing-{n}")},
            network="net1",
            service_account="billing",
            locality="",
        )
        for n in range(count)
    }


def test_more_vms_than_the_guard_can_know_are_refused_before_anything_is_made() -> None:
    for entries in (vms(600), vms(1300, vm="the same")):
        assert guard_args("billing", arguments(), entries).entries == entries
    with pytest.raises(pulumi.RunError) as raised:
        guard_args("billing", arguments(), vms(1000))
    assert str(raised.value) == (
        "workloads.billing.vms: the registration guard cannot hold what 1000 VMs with labels of their own register as, "
        "split the workload, give all of them the same, or set istio.registrationGuard to false"
    )


def test_nothing_empty_is_sent() -> None:
    # istiod refuses an empty probe.
    spec = workload_group("billing", arguments(labels={}, ports={}, probe=None))["spec"]
    assert spec == {"template": {"serviceAccount": "billing", "network": "net1"}}


def test_a_vms_labels_lie_over_the_groups() -> None:
    group = workload_group("billing", arguments())
    assert group_of_vm(group, {"version": "v2"})["spec"]["metadata"]["labels"] == {"app": "billing", "version": "v2"}
    assert group_of_vm(group, {}) == group
    assert group["spec"]["metadata"]["labels"]["version"] == "v1"


def test_labels_of_a_vm_in_a_group_without_any() -> None:
    group = workload_group("billing", arguments(labels={}))
    assert group_of_vm(group, {"version": "v2"})["spec"]["metadata"] == {"labels": {"version": "v2"}}


@pytest.mark.parametrize(
    ("labels", "selector"),
    [
        ({"app": "billing", "version": "v1"}, {"app": "billing"}),
        ({"app": "x", "app.kubernetes.io/name": "billing"}, {"app.kubernetes.io/name": "billing"}),
        ({"app": "x", "service.istio.io/canonical-name": "b"}, {"service.istio.io/canonical-name": "b"}),
        # Every entry bears its canonical name, which is then the group's.
        ({"version": "v1"}, {"service.istio.io/canonical-name": "billing"}),
    ],
)
def test_service_selector(labels: dict[str, str], selector: dict[str, str]) -> None:
    assert service_selector("billing", labels) == selector


def test_service_spec_leads_to_the_workloads_ports() -> None:
    args = arguments(ports={"http": 8080, "grpc": 9090}, service_ports={"http": 80, "grpc": 90})
    assert service_spec("billing", args) == {
        "selector": {"app": "billing"},
        "ports": [
            {"name": "grpc", "port": 90, "targetPort": 9090, "protocol": "TCP"},
            {"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"},
        ],
    }


def test_spiffe_identity() -> None:
    assert spiffe_identity(arguments()) == "spiffe://cluster.local/ns/vm-apps/sa/billing"


def test_it_registers_group_and_service_after_what_they_need() -> None:
    def program() -> dict[str, Any]:
        leaf = pulumi.CustomResource("test:index:Leaf", "leaf", {})
        workload = Workload("billing", arguments(after=[leaf]))
        return {"identity": workload.identity, "host": workload.host}

    done = run(program)
    assert done.names == {"leaf", "billing", "billing-group", "billing-service"}
    assert done["billing"].type == "istiovm:index:Workload"
    for name in ("billing-group", "billing-service"):
        assert done[name].parent_name == "billing"
        assert done[name].dependency_names == {"leaf"}
    service = done["billing-service"].inputs
    assert service["metadata"]["name"] == "billing"
    # Without this the provider waits ten minutes for pods that will never be.
    assert service["metadata"]["annotations"] == {"pulumi.com/skipAwait": "true"}
    assert done.monitor.outputs["billing"] == {
        "identity": "spiffe://cluster.local/ns/vm-apps/sa/billing",
        "host": "billing.vm-apps.svc.cluster.local",
    }


def test_without_a_host_there_is_no_service() -> None:
    done = run(lambda: {"host": Workload("billing", arguments(host=None)).host})
    assert done.names == {"billing", "billing-group"}


def test_a_static_vm_is_an_endpoint_in_plain_text_whatever_its_workload_says() -> None:
    labels = {"app": "billing", "version": "v1", "security.istio.io/tlsMode": "istio"}
    group = workload_group("billing", arguments(labels=labels))
    vm = StaticVm(address="10.77.0.100", labels={"version": "v0"}, weight=3)
    assert static_entry("legacy-1", vm, group) == {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": "legacy-1", "namespace": "vm-apps"},
        "spec": {
            "address": "10.77.0.100",
            "labels": {
                "app": "billing",
                "version": "v0",
                "service.istio.io/canonical-name": "billing",
                "service.istio.io/canonical-revision": "v0",
                "security.istio.io/tlsMode": "disabled",
            },
            "network": "net1",
            "ports": {"http": 8080},
            "weight": 3,
        },
    }


def test_the_service_finds_static_vms_of_a_workload_that_no_label_names() -> None:
    args = arguments(labels={})
    entry = static_entry("legacy-1", StaticVm(address="10.77.0.100"), workload_group("billing", args))
    assert service_selector("billing", {}).items() <= entry["spec"]["labels"].items()
    assert "weight" not in entry["spec"]


def test_a_static_vm_is_one_workload_entry_and_shows_its_id() -> None:
    def program() -> dict[str, Any]:
        made = Workload("billing", arguments(static_vms={"legacy-1": StaticVm(address="10.77.0.100")}))
        return {vm: pulumi.Output.all(**steps) for vm, steps in made.static_steps.items()}

    found = run(program)
    assert found.names == {"billing", "billing-group", "billing-service", "legacy-1-static"}
    entry = found["legacy-1-static"]
    assert (entry.type, entry.parent_name) == ("kubernetes:networking.istio.io/v1:WorkloadEntry", "billing")


def test_a_host_outside_the_cluster_is_a_service_entry_over_vms_and_pods() -> None:
    args = arguments(host="billing.mesh.internal", service_entry=True, protocols={"http": "HTTP"})
    done = run(lambda: {"host": Workload("billing", args).host})
    assert done.names == {"billing", "billing-group", "billing-service-entry"}
    assert done["billing-service-entry"].inputs["metadata"] == {"name": "billing", "namespace": "vm-apps"}
    assert done["billing-service-entry"].inputs["spec"] == {
        "hosts": ["billing.mesh.internal"],
        "location": "MESH_INTERNAL",
        # VMs answer at the port of their entry, pods at the target.
        "ports": [{"name": "http", "number": 80.0, "protocol": "HTTP", "targetPort": 8080.0}],
        "resolution": "STATIC",
        "workloadSelector": {"labels": {"app": "billing"}},
    }
    assert done.values["host"] == "billing.mesh.internal"


def test_access_is_for_what_bears_the_workloads_name() -> None:
    def program() -> dict[str, Any]:
        workload = Workload("billing", arguments(access=[Access(ports=[8080])]))
        pulumi.CustomResource("test:index:Vm", "vm", {}, pulumi.ResourceOptions(depends_on=[workload.ready]))
        return {}

    done = run(program)
    assert done.names == {"vm", "billing", "billing-group", "billing-service", "billing-access"}
    assert done["vm"].dependency_names == {"billing-group"}
    assert "billing-access" in done["billing-group"].dependency_names, "no VM serves before it holds"
    policy = done["billing-access"]
    assert (policy.type, policy.parent_name) == ("kubernetes:security.istio.io/v1:AuthorizationPolicy", "billing")
    assert policy.inputs["metadata"] == {
        "name": "billing-access",
        "namespace": "vm-apps",
        "annotations": UNSEEN_BY_ANALYZE,
    }
    assert policy.inputs["spec"]["selector"] == {"matchLabels": {"app": "billing"}}
