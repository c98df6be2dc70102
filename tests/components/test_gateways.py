"""The east-west gateway: its objects, and the address that VMs get."""

from collections.abc import Sequence
from typing import Any

import pulumi
import pytest
from fake_cluster import FakeCluster
from recording import UNKNOWN, Run, run

from cluster.errors import ApiError
from components import common, ways
from components.gateways import (
    EastWestGateway,
    EastWestGatewayArgs,
    gateway_values,
    istiod_gateway,
    istiod_routes,
    node_port_values,
    services_gateway,
)


def test_values_lie_over_the_users() -> None:
    extra = {"imagePullPolicy": "IfNotPresent", "service": {"annotations": {"a": "b"}, "type": "ClusterIP"}}
    assert gateway_values(extra=extra, network="net1", revision="default") == {
        "imagePullPolicy": "IfNotPresent",
        "service": {"annotations": {"a": "b"}, "type": "LoadBalancer"},
        "networkGateway": "net1",
        "revision": "",
    }


def test_node_ports_do_what_the_charts_network_gateway_would() -> None:
    extra = {"labels": {"team": "a"}, "service": {"annotations": {"a": "b"}, "type": "ClusterIP"}}
    values = node_port_values(extra=extra, network="net1", revision="canary", node_ports={"tls-istiod": 31012})
    ports = values["service"].pop("ports")
    assert values == {
        "labels": {"team": "a", "topology.istio.io/network": "net1"},
        "env": {"ISTIO_META_REQUESTED_NETWORK_VIEW": "net1"},
        "revision": "canary",
        "service": {"annotations": {"traffic.istio.io/nodeSelector": "{}", "a": "b"}, "type": "NodePort"},
    }
    assert [(port["name"], port["port"], port["targetPort"], port.get("nodePort")) for port in ports] == [
        ("status-port", 15021, 15021, None),
        ("tls", 15443, 15443, None),
        ("tls-istiod", 15012, 15012, 31012),
        ("tls-webhook", 15017, 15017, None),
    ]


def test_istiod_is_passed_through() -> None:
    assert istiod_gateway("") == {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "istiod-gateway", "namespace": "istio-system"},
        "spec": {
            "selector": {"istio": "eastwestgateway"},
            "servers": [
                {
                    "port": {"name": "tls-istiod", "number": 15012, "protocol": "TLS"},
                    "tls": {"mode": "PASSTHROUGH"},
                    "hosts": ["*"],
                },
                {
                    "port": {"name": "tls-istiodwebhook", "number": 15017, "protocol": "TLS"},
                    "tls": {"mode": "PASSTHROUGH"},
                    "hosts": ["*"],
                },
            ],
        },
    }


@pytest.mark.parametrize(
    ("revision", "names", "host"),
    [
        ("", ["*"], "istiod.istio-system.svc.cluster.local"),
        (
            "canary",
            ["istiod-canary.istio-system.svc", "istiod-canary.istio-system.svc.cluster.local"],
            "istiod-canary.istio-system.svc.cluster.local",
        ),
    ],
)
def test_istiod_routes(revision: str, names: list[str], host: str) -> None:
    routes = istiod_routes(revision)
    gateway = istiod_gateway(revision)["metadata"]["name"]
    # Two Gateways with the same host on a port: Istio leaves one out, and a new revision would wait for the old to go.
    assert [server["hosts"] for server in istiod_gateway(revision)["spec"]["servers"]] == [names, names]
    assert routes["metadata"]["name"] == gateway
    assert routes["spec"] == {
        "hosts": names,
        "gateways": [gateway],
        "tls": [
            {
                "match": [{"port": 15012, "sniHosts": names}],
                "route": [{"destination": {"host": host, "port": {"number": 15012}}}],
            },
            {
                "match": [{"port": 15017, "sniHosts": names}],
                "route": [{"destination": {"host": host, "port": {"number": 443}}}],
            },
        ],
    }


def test_services_take_mtls_for_names_of_the_mesh_only() -> None:
    (server,) = services_gateway()["spec"]["servers"]
    assert server == {
        "port": {"name": "tls", "number": 15443, "protocol": "TLS"},
        "tls": {"mode": "AUTO_PASSTHROUGH"},
        "hosts": ["*.local"],
    }


SERVICE = "/api/v1/namespaces/istio-system/services/istio-eastwestgateway"
LOAD_BALANCER = {"status": {"loadBalancer": {"ingress": [{"ip": "10.77.0.200"}]}}}
NODE_PORT = {"spec": {"ports": [{"name": "tls", "nodePort": 31443}, {"name": "tls-istiod", "nodePort": 31012}]}}
NODE = {"metadata": {"name": "node1"}, "status": {"addresses": [{"type": "InternalIP", "address": "10.77.0.10"}]}}
THERE = {SERVICE: {**LOAD_BALANCER, **NODE_PORT}, "/api/v1/nodes": {"items": [NODE]}}


def gateway_run(*, preview: bool = False, nothing: bool = False, failing: Sequence[str] = (), **options: Any) -> Run:
    cluster = FakeCluster({"/api/v1/nodes": THERE["/api/v1/nodes"]} if nothing else THERE)

    def program() -> dict[str, pulumi.Output[Any]]:
        control_plane = pulumi.ComponentResource("test:index:ControlPlane", "control-plane")
        leaf = pulumi.CustomResource("test:index:Leaf", "leaf", {}, pulumi.ResourceOptions(parent=control_plane))
        args = EastWestGatewayArgs(
            get=cluster.get, charts=".lab/charts", version="1.31.1", network="net1", after=[leaf], **options
        )
        made = EastWestGateway("east-west", args)
        return {"address": made.address, "istiod": made.istiod_address, "port": made.istiod_port}

    done = run(program, preview=preview, failing=failing)
    done.cluster = cluster
    return done


def test_it_registers_its_chart_and_objects_after_the_control_plane() -> None:
    done = gateway_run()
    assert done.names - {"control-plane", "leaf"} == {
        "east-west",
        "east-west-chart",
        "east-west-istiod",
        "east-west-istiod-routes",
        "east-west-services",
    }
    assert done["east-west"].type == "istiovm:index:EastWestGateway"
    for name in done.names - {"control-plane", "leaf", "east-west"}:
        assert done[name].parent_name == "east-west"
        assert "leaf" in done[name].dependency_names
    chart = done["east-west-chart"]
    assert (chart.type, chart.remote) == ("kubernetes:helm.sh/v4:Chart", True)
    assert chart.inputs["name"] == "istio-eastwestgateway"
    assert done["east-west-istiod"].inputs["metadata"] == istiod_gateway("")["metadata"]
    assert done.values == {"address": "10.77.0.200", "istiod": "10.77.0.200", "port": 15012}
    assert done.monitor.outputs["east-west"] == {"address": "10.77.0.200"}


def test_what_is_exposed_is_what_is_asked_for() -> None:
    assert "east-west-services" not in gateway_run(expose_services=False).names
    done = gateway_run(expose_istiod=False)
    assert not {"east-west-istiod", "east-west-istiod-routes"} & done.names
    assert "east-west-services" in done.names


def test_every_istiod_is_led_to_by_its_name() -> None:
    done = gateway_run(further=["canary"])
    assert done["east-west-istiod"].inputs["metadata"]["name"] == "istiod-gateway"
    assert done["east-west-istiod-canary"].inputs["metadata"]["name"] == "istiod-gateway-canary"
    assert done["east-west-istiod-canary-routes"].inputs["spec"] == istiod_routes("canary")["spec"]
    # Which of them is the main one makes no difference to what leads there.
    after = gateway_run(revision="canary", further=["default"])
    for name in done.names - {"east-west-chart"}:
        assert after[name].inputs == done[name].inputs, name


@pytest.mark.parametrize(
    ("options", "values", "looks"),
    [
        ({"address": "192.0.2.7"}, ("192.0.2.7", "192.0.2.7", 15012), 0),
        ({"istiod_address": "192.0.2.7"}, ("10.77.0.200", "192.0.2.7", 15012), 1),
        ({"service": "NodePort"}, ("10.77.0.10", "10.77.0.10", 31012), 2),
        ({"service": "NodePort", "node_ports": {"tls-istiod": 32012}}, ("10.77.0.10", "10.77.0.10", 32012), 1),
        (
            {"service": "NodePort", "node_ports": {"tls-istiod": 32012}, "address": "192.0.2.7"},
            ("192.0.2.7", "192.0.2.7", 32012),
            0,
        ),
    ],
)
def test_where_vms_reach_istiod(options: dict[str, Any], values: tuple[Any, ...], looks: int) -> None:
    """What the stack says is not asked of the cluster."""
    done = gateway_run(**options)
    assert tuple(done.values[key] for key in ("address", "istiod", "port")) == values
    assert len(done.cluster.asked) == looks
    kind = done["east-west-chart"].inputs["values"]["service"]["type"]
    assert kind == options.get("service", "LoadBalancer")


def test_before_the_cluster_has_an_address_a_preview_says_unknown_and_does_not_wait() -> None:
    done = gateway_run(preview=True, nothing=True)
    assert done.values == {"address": UNKNOWN, "istiod": UNKNOWN, "port": 15012}
    assert done["east-west-istiod"].inputs["metadata"] == istiod_gateway("")["metadata"]
    assert gateway_run(preview=True, nothing=True, service="NodePort").values["port"] == UNKNOWN


def test_up_waits_for_the_load_balancer(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, {}, THERE[SERVICE]])
    monkeypatch.setattr(common, "POLL_SECONDS", 0)
    monkeypatch.setitem(THERE, SERVICE, lambda: next(answers))
    assert gateway_run().values["address"] == "10.77.0.200"


def test_a_chart_that_has_failed_has_no_address() -> None:
    done = gateway_run(failing=["east-west-chart"])
    assert (done.values["address"], done.cluster.asked) == (UNKNOWN, [])


def test_an_api_that_gives_no_answer_ends_the_program_with_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(THERE, SERVICE, ApiError("the Kubernetes API at https://x refuses connections"))
    with pytest.raises(pulumi.RunError, match=r"^the Kubernetes API at https://x refuses connections$"):
        gateway_run(preview=True)


@pytest.mark.parametrize(("exposed", "bearer"), [(True, "east-west-services"), (False, "east-west-istiod")])
def test_the_address_that_a_name_gave_stands_on_a_gateway(
    monkeypatch: pytest.MonkeyPatch, exposed: bool, bearer: str
) -> None:
    gateway = services_gateway()["metadata"]["name"] if exposed else "istiod-gateway"
    marked = {"metadata": {"annotations": {"istio-vm-mesh/istiod-address": "192.0.2.2"}}}
    path = f"/apis/networking.istio.io/v1/namespaces/istio-system/gateways/{gateway}"
    monkeypatch.setitem(THERE, SERVICE, {"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}})
    monkeypatch.setitem(THERE, path, marked)
    monkeypatch.setattr(ways, "resolve", lambda name: ["192.0.2.10", "192.0.2.2", "192.0.2.1"])
    done = gateway_run(expose_services=exposed)
    assert done.values == {"address": "lb.example", "istiod": "192.0.2.2", "port": 15012}
    metadata = done[bearer].inputs["metadata"]
    assert metadata["annotations"] == {"istio-vm-mesh/istiod-address": "192.0.2.2"}
    assert metadata["name"] == gateway
    assert [r.name for r in done.monitor.registered.values() if "annotations" in r.inputs.get("metadata", {})] == [
        bearer
    ]
