"""The east-west gateway: its objects, and the address that VMs get."""

import pulumi
import pytest
from recording import UNKNOWN, Run, run

from components.gateways import (
    EastWestGateway,
    EastWestGatewayArgs,
    first_address,
    gateway_values,
    istiod_gateway,
    istiod_ip,
    istiod_routes,
    services_gateway,
)
from components.kubectl import ClusterAccess


def test_values_lie_over_the_users() -> None:
    extra = {"imagePullPolicy": "IfNotPresent", "service": {"annotations": {"a": "b"}, "type": "ClusterIP"}}
    assert gateway_values(extra=extra, network="net1", revision="default") == {
        "imagePullPolicy": "IfNotPresent",
        "service": {"annotations": {"a": "b"}, "type": "LoadBalancer"},
        "networkGateway": "net1",
        "revision": "",
    }


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


@pytest.mark.parametrize(
    ("ingress", "address"),
    [
        ('[{"ip": "10.77.0.200"}]', "10.77.0.200"),
        ('[{"hostname": "lb.example"}, {"ip": "10.77.0.200"}]', "10.77.0.200"),
        ('[{"hostname": "lb.example"}]', "lb.example"),
    ],
)
def test_first_address(ingress: str, address: str) -> None:
    assert first_address(ingress) == address


def test_no_address_is_an_error() -> None:
    with pytest.raises(ValueError, match="has neither an IP nor a host name"):
        first_address("[{}]")


def test_istiod_ip_takes_an_ip_and_refuses_a_name_with_the_reason() -> None:
    assert istiod_ip("10.77.0.200") == "10.77.0.200"
    with pytest.raises(pulumi.RunError, match=r"only a host name \(lb.example\), and a VM's hosts file needs an IP"):
        istiod_ip("lb.example")


def gateway_run(*, preview: bool = False, expose_services: bool = True, ingress: str = "") -> Run:
    def program() -> dict[str, pulumi.Output[str]]:
        control_plane = pulumi.ComponentResource("test:index:ControlPlane", "control-plane")
        leaf = pulumi.CustomResource("test:index:Leaf", "leaf", {}, pulumi.ResourceOptions(parent=control_plane))
        args = EastWestGatewayArgs(
            access=ClusterAccess(),
            charts=".lab/charts",
            version="1.31.1",
            network="net1",
            expose_services=expose_services,
            after=[leaf],
        )
        return {"address": EastWestGateway("east-west", args).address}

    return run(program, lambda command, args: ingress, preview=preview)


def test_it_registers_its_chart_and_objects_after_the_control_plane() -> None:
    done = gateway_run(ingress='[{"ip": "10.77.0.200"}]')
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
    assert done.values == {"address": "10.77.0.200"}
    assert done.monitor.outputs["east-west"] == {"address": "10.77.0.200"}


def test_services_are_exposed_only_if_asked_for() -> None:
    assert "east-west-services" not in gateway_run(expose_services=False, ingress='[{"ip": "10.77.0.200"}]').names


def test_before_the_load_balancer_is_there_a_preview_says_unknown_and_does_not_wait() -> None:
    done = gateway_run(preview=True)
    assert done.values == {"address": UNKNOWN}
    assert "while" not in done.monitor.invokes[0]["command"]


def test_up_waits_for_the_load_balancer() -> None:
    assert "while" in gateway_run(ingress='[{"ip": "10.77.0.200"}]').monitor.invokes[0]["command"]
