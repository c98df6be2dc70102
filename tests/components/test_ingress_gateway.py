"""The ingress gateway: its values, servers and routes, and what it registers."""

from typing import Any

import pulumi
import pytest
from fake_cluster import FakeCluster
from recording import UNKNOWN, Run, public_text, run, secrets

from arguments.traffic import http_rules
from components.ingress import (
    Certificate,
    Host,
    IngressGateway,
    IngressGatewayArgs,
    host_object_name,
    host_rules,
    ingress_address,
    ingress_routes,
    ingress_servers,
    ingress_values,
    label_commands,
)
from components.kubectl import ClusterAccess
from settings import HostTraffic

HTTP = [{"route": [{"destination": {"host": "billing.vm-apps.svc.cluster.local", "port": {"number": 80}}}]}]
PORTS = {"http": 80, "https": 443}


def args_of(**options: Any) -> IngressGatewayArgs:
    given = {
        "access": ClusterAccess(),
        "get": FakeCluster().get,
        "charts": ".lab/charts",
        "version": "1.31.1",
        "ports": PORTS,
    }
    return IngressGatewayArgs(**{**given, **options})


def test_only_the_ports_that_are_asked_for() -> None:
    extra = {"service": {"loadBalancerIP": "192.0.2.1", "type": "ClusterIP"}, "imagePullPolicy": "IfNotPresent"}
    values = ingress_values(
        args_of(
            values=extra,
            revision="canary",
            service="NodePort",
            ports={"https": 8443, "status": 9000},
            node_ports={"https": 30443},
            annotations={"a/b": "c"},
            node_selector={"role": "gateway"},
        )
    )
    assert values == {
        "imagePullPolicy": "IfNotPresent",
        "revision": "canary",
        "nodeSelector": {"role": "gateway"},
        "service": {
            "loadBalancerIP": "192.0.2.1",
            "type": "NodePort",
            "annotations": {"a/b": "c"},
            "ports": [
                {"name": "https", "port": 8443, "targetPort": 8443, "protocol": "TCP", "nodePort": 30443},
                {"name": "status-port", "port": 9000, "targetPort": 15021, "protocol": "TCP"},
            ],
        },
    }


def test_hosts_with_one_certificate_share_a_server() -> None:
    hosts = {
        "b.example.com": Host(http=HTTP, secret="shop", redirect=True),
        "a.example.com": Host(http=HTTP, secret="shop"),
        "*.example.com": Host(http=HTTP, secret="bank", mode="MUTUAL"),
        "plain.example.com": Host(http=HTTP),
    }
    assert ingress_servers(PORTS, hosts) == [
        {"port": {"name": "http", "number": 80, "protocol": "HTTP"}, "hosts": ["plain.example.com"]},
        {
            "port": {"name": "http-redirect", "number": 80, "protocol": "HTTP"},
            "hosts": ["b.example.com"],
            "tls": {"httpsRedirect": True},
        },
        {
            "port": {"name": "https-bank-mutual", "number": 443, "protocol": "HTTPS"},
            "hosts": ["*.example.com"],
            "tls": {"mode": "MUTUAL", "credentialName": "bank"},
        },
        {
            "port": {"name": "https-shop-simple", "number": 443, "protocol": "HTTPS"},
            "hosts": ["a.example.com", "b.example.com"],
            "tls": {"mode": "SIMPLE", "credentialName": "shop"},
        },
    ]


def test_a_host_is_led_into_the_mesh() -> None:
    assert ingress_routes("edge", "*.example.com", Host(http=HTTP)) == {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "ingress.example.com", "namespace": "edge"},
        "spec": {"hosts": ["*.example.com"], "gateways": ["edge/ingress"], "http": HTTP},
    }
    assert host_object_name("example.com") == "ingress-example.com"


def test_a_services_own_rules_hold_at_the_gateway_at_its_port() -> None:
    v1, b, c = {"subset": "v1"}, {"host": "b.example"}, {"host": "c.example", "port": 1}
    traffic = {
        "matches": [
            {"path": {"exact": "/x"}, "routes": [v1], "mirror": {**b, "percent": 5}, "timeout": "2s"},
            {"method": "PUT", "mirror": c},
        ],
        "routes": [{**v1, "weight": 70}, {**b, "weight": 20}, {**c, "weight": 10}],
    }
    at_v1 = {"destination": {"host": "a.example", "subset": "v1", "port": {"number": 80}}}
    at_b = {"destination": {"host": "b.example", "port": {"number": 80}}}
    at_c = {"destination": {"host": "c.example", "port": {"number": 1}}}
    split = [{**at_v1, "weight": 70}, {**at_b, "weight": 20}, {**at_c, "weight": 10}]
    assert host_rules(http_rules("a.example", HostTraffic.model_validate(traffic)), "a.example", 80) == [
        {
            "match": [{"uri": {"exact": "/x"}}],
            "route": [at_v1],
            "mirrors": [{**at_b, "percentage": {"value": 5}}],
            "timeout": "2s",
        },
        {
            "match": [{"method": {"exact": "PUT"}}],
            "route": split,
            "mirrors": [{**at_c, "percentage": {"value": 100}}],
        },
        {"route": split},
    ]
    assert host_rules((), "a", None) == [{"route": [{"destination": {"host": "a"}}]}]
    assert host_rules((), "a", 80) == [{"route": [{"destination": {"port": {"number": 80}, "host": "a"}}]}]


def test_a_nodes_label_is_its_own_and_goes_even_where_the_node_has_gone() -> None:
    assert label_commands(ClusterAccess(), "node1", "a/role", "gateway") == {
        "create": "kubectl --request-timeout=20s label node node1 a/role=gateway",
        "update": "kubectl --request-timeout=20s label node node1 a/role=gateway --overwrite",
        "delete": "kubectl --request-timeout=20s label nodes --field-selector=metadata.name=node1 a/role-",
    }


@pytest.mark.parametrize(
    ("ingress", "address"),
    [
        ([{"ip": "10.0.0.10"}, {"ip": "10.0.0.9", "hostname": "lb"}], "10.0.0.9"),
        ([{"hostname": "b.example"}, {"hostname": "a.example"}], "a.example"),
    ],
)
def test_what_the_load_balancer_is_reached_at(ingress: list[dict[str, str]], address: str) -> None:
    assert ingress_address(ingress) == address


def test_a_load_balancer_without_an_address_is_refused() -> None:
    with pytest.raises(pulumi.RunError, match=r"^ingressGateway: its load balancer has neither an IP nor a host name"):
        ingress_address([{}])


def ingress_run(*, preview: bool = False, **options: Any) -> Run:
    there = {"status": {"loadBalancer": {"ingress": [{"ip": "10.77.0.201"}]}}}
    place = options.get("namespace", "istio-system")
    cluster = FakeCluster({} if preview else {f"/api/v1/namespaces/{place}/services/istio-ingressgateway": there})

    def program() -> dict[str, Any]:
        leaf = pulumi.CustomResource("test:index:Leaf", "leaf", {})
        made = IngressGateway("ingress", args_of(get=cluster.get, after=[leaf], **options))
        return {} if made.address is None else {"address": made.address}

    done = run(program, preview=preview)
    done.cluster = cluster
    return done


def test_it_registers_what_is_asked_for_after_the_control_plane() -> None:
    done = ingress_run(
        namespace="edge",
        make_namespace=True,
        hosts={"shop.example.com": Host(http=HTTP, secret="shop")},
        certificates={
            "shop": Certificate(
                certificate="public", private_key=pulumi.Output.secret("very private"), client_ca="clients"
            )
        },
        node_labels={"node1": {"a/role": "gateway"}},
    )
    assert done.names - {"leaf"} == {
        "ingress",
        "ingress-namespace",
        "ingress-chart",
        "ingress-gateway",
        "ingress-shop-secret",
        "ingress-shop.example.com-routes",
        "ingress-node-node1/a/role",
    }
    assert done["ingress"].type == "istiovm:index:IngressGateway"
    for name in done.names - {"leaf", "ingress", "ingress-namespace", "ingress-node-node1/a/role"}:
        assert done[name].parent_name == "ingress"
        assert {"leaf", "ingress-namespace"} <= done[name].dependency_names
    assert "ingress-node-node1/a/role" in done["ingress-chart"].dependency_names
    assert done["ingress-chart"].inputs["name"] == "istio-ingressgateway"
    secret = done["ingress-shop-secret"].inputs
    assert secret["type"] == "kubernetes.io/tls"
    assert "very private" in str(secrets(secret))
    assert all("very private" not in public_text(made.inputs) for made in done.monitor.registered.values())
    assert done.values == {"address": "10.77.0.201"}


def test_nothing_more_without_hosts() -> None:
    assert ingress_run().names - {"leaf"} == {"ingress", "ingress-chart"}


def test_only_a_load_balancer_has_an_address() -> None:
    done = ingress_run(service="NodePort")
    assert done.values == {}
    assert done.cluster.asked == []


def test_a_preview_does_not_wait_for_the_load_balancer() -> None:
    done = ingress_run(preview=True)
    assert done.values == {"address": UNKNOWN}
    assert len(done.cluster.asked) == 1
