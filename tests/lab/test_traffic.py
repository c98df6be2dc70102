"""Traffic rules of the stack, seen in requests from a VM through the sidecars to VMs of two versions."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import json
import math
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from requests_in_mesh import Client, Upstream, load, upstream
from stack import Kubectl, Stack, changes, committed_config, eventually

from lab.runtime import Lab, VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HOST = "billing.vm-apps.svc.cluster.local"
V2 = VmSpec(name="traffic-2", address="10.77.0.110", version="v2")
SUBSETS = {"v1": {"version": "v1"}, "v2": {"version": "v2"}}
RULE, SERVICE = f"{HOST}-destination-rule", f"{HOST}-virtual-service"
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: traffic-test, namespace: vm-apps}
spec: {mtls: {mode: STRICT}}
"""
TRAFFIC = dict.fromkeys((HOST, RULE, SERVICE), "create")


def weighted(v1: int, v2: int) -> list[dict[str, Any]]:
    return [{"subset": "v1", "weight": v1}, {"subset": "v2", "weight": v2}]


def bounds(count: int, share: float, sure: float = 0.9999) -> tuple[int, int]:
    """The least and the most hits of a share that are seen in so many draws, as sure as that."""

    def odds(hits: int) -> float:
        ways = math.lgamma(count + 1) - math.lgamma(hits + 1) - math.lgamma(count - hits + 1)
        return math.exp(ways + hits * math.log(share) + (count - hits) * math.log(1 - share))

    sums = list(itertools.accumulate(map(odds, range(count + 1))))
    rest = (1 - sure) / 2
    return bisect.bisect_right(sums, rest), bisect.bisect_left(sums, 1 - rest)


@pytest.fixture(scope="module")
def pair(dev_stack: Stack, lab: Lab, kubectl: Kubectl) -> Iterator[Stack]:
    """The dev stack with a third VM, of version v2, for a tenth of the requests; all three take mutual TLS only."""
    lab.add_vm(V2)
    dev_stack.billing["vms"][V2.name] = {"address": V2.address, "labels": {"version": "v2", "istio-locality": "eu.a"}}
    dev_stack.config["traffic"] = {HOST: {"subsets": SUBSETS, "routes": weighted(90, 10), "timeout": "5s"}}
    assert TRAFFIC.items() <= changes(dev_stack.preview()).items()
    dev_stack.up()
    kubectl("apply", "-f", "-", stdin=STRICT)
    yield dev_stack
    kubectl("delete", "-f", "-", stdin=STRICT)
    dev_stack.config = committed_config()
    dev_stack.up()
    lab.remove_vm(V2.name)
    assert kubectl("get", "-n", "vm-apps", "virtualservices,destinationrules", "-o", "name") == ""


@pytest.fixture(scope="module")
def client(pair: Stack, kubectl: Kubectl) -> Client:
    """A VM that calls; it is one of those that answer, too."""
    address = kubectl("get", "-n", "vm-apps", "service", "billing", "-o", "jsonpath={.spec.clusterIP}")
    return Client("ivm-billing-1", HOST, address)


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    with upstream() as running:
        yield running


def changed_at(kubectl: Kubectl) -> float:
    """When the API server took the VirtualService's last change, rounded down to a second (Unix time)."""
    found = json.loads(kubectl("get", "-n", "vm-apps", "virtualservice", HOST, "-o", "json", "--show-managed-fields"))
    times = [field["time"] for field in found["metadata"]["managedFields"]]
    return datetime.fromisoformat(max(times)).timestamp()


def test_a_changed_weight_is_one_object_and_no_request_fails(
    pair: Stack, client: Client, kubectl: Kubectl, tmp_path: Path
) -> None:
    eventually(lambda: client.versions(40)["v2"] < 12, seconds=5, what="the first weights hold")
    least, most = bounds(400, 0.1)
    assert least <= client.versions(400)["v2"] <= most

    with load(client, tmp_path) as seen:
        eventually(lambda: len(seen.answers) > 2000, seconds=60, what="there is load")
        before = time.time()
        pair.config["traffic"][HOST]["routes"] = weighted(50, 50)
        assert changes(pair.preview()) == {SERVICE: "update"}
        pair.up()
        followed = changed_at(kubectl) + 5
        eventually(lambda: seen.versions(followed, math.inf).total() > 1000, seconds=60, what="there is still load")
    assert seen.failures == []
    first, then = seen.versions(0, before), seen.versions(followed, math.inf)
    least, most = bounds(first.total(), 0.1)
    assert least <= first["v2"] <= most
    least, most = bounds(then.total(), 0.5)
    assert least <= then["v2"] <= most, "the new weights do not hold 5 s after the change"
    assert changes(pair.preview()) == {}


def test_requests_from_outside_go_by_the_weights_at_the_ingress_too(pair: Stack) -> None:
    host = "billing.example.com"
    pair.config["ingressGateway"] = {"enabled": True, "hosts": {host: {"to": HOST}}}
    pair.config["traffic"][HOST]["routes"] = weighted(90, 10)
    pair.up()
    outside = Client(None, host, pair.outputs()["mesh"]["gateways"]["ingress"])
    eventually(lambda: outside.ask()[0].status == 200, seconds=30, what="a VM answers through the gateway")
    eventually(lambda: outside.versions(40)["v2"] < 12, seconds=10, what="the first weights hold at the gateway")
    least, most = bounds(400, 0.1)
    assert least <= outside.versions(400)["v2"] <= most

    pair.config["traffic"][HOST]["routes"] = weighted(50, 50)
    assert changes(pair.preview()) == {SERVICE: "update", f"ingress-{host}-routes": "update"}
    pair.up()
    least, most = bounds(400, 0.5)
    eventually(lambda: outside.versions(40)["v2"] > 12, seconds=10, what="the gateway follows")
    assert least <= outside.versions(400)["v2"] <= most
    del pair.config["ingressGateway"]
    pair.up()


RULES: dict[str, Any] = {
    "subsets": SUBSETS,
    "routes": [{"subset": "v1"}],
    "matches": [
        {"headers": {"x-case": {"exact": "limit"}}, "timeout": "1s"},
        {"headers": {"x-case": {"exact": "try"}}, "retries": {"attempts": 2, "perTryTimeout": "2s", "retryOn": "503"}},
        {"headers": {"x-case": {"exact": "slow"}}, "retries": {"attempts": 1, "perTryTimeout": "1s", "retryOn": "5xx"}},
        {"headers": {"x-case": {"exact": "once"}}, "retries": {"attempts": 0}},
        {"headers": {"x-case": {"prefix": "copy"}}, "mirror": {"subset": "v2"}},
        {"headers": {"x-case": {"regex": "late|later"}}, "fault": {"delay": {"fixedDelay": "1s"}}},
        {"headers": {"x-v2": {"present": True}}, "routes": [{"subset": "v2"}]},
        {"path": {"exact": "/healthz"}, "fault": {"abort": {"httpStatus": 418}}},
        {"path": {"prefix": "/part"}, "fault": {"abort": {"httpStatus": 418, "percent": 50}}},
        {"path": {"regex": "/v[12]/.*"}, "fault": {"abort": {"httpStatus": 410}}},
        {"method": "POST", "fault": {"abort": {"httpStatus": 403}}},
    ],
}


@pytest.fixture(scope="module")
def rules(pair: Stack, client: Client) -> None:
    pair.config["traffic"] = {HOST: RULES}
    pair.up()
    eventually(lambda: client.ask(1, "/healthz")[0].status == 418, seconds=10, what="the rules hold")


def case(name: str) -> dict[str, str]:
    return {"x-case": name}


def test_a_timeout_ends_a_request(rules: None, client: Client, server: Upstream) -> None:
    server.answer = lambda path, caller: time.sleep(4) or 200  # type: ignore[func-returns-value]
    (answer,) = client.ask(1, server.through("limit"), headers=case("limit"))
    assert answer.status == 504
    assert 0.95 < answer.seconds < 3
    (answer,) = client.ask(1, server.through("no-limit"))
    assert answer.status == 200
    assert answer.seconds > 4


def test_failed_requests_are_tried_again(rules: None, client: Client, server: Upstream) -> None:
    server.answer = lambda path, caller: 503
    assert client.ask(1, server.through("always"), headers=case("try"))[0].status == 503
    assert len(server.callers("always")) == 3
    assert client.ask(1, server.through("once"), headers=case("once"))[0].status == 503
    assert len(server.callers("once")) == 1
    server.answer = lambda path, caller: 200 if len(server.callers("twice")) > 2 else 503
    assert client.ask(1, server.through("twice"), headers=case("try"))[0].status == 200
    assert len(server.callers("twice")) == 3


def test_an_attempt_that_is_too_slow_is_tried_again(rules: None, client: Client, server: Upstream) -> None:
    def slow_first(path: str, caller: str) -> int:
        if len(server.callers("lame")) == 1:
            time.sleep(4)
        return 200

    server.answer = slow_first
    (answer,) = client.ask(1, server.through("lame"), headers=case("slow"))
    assert answer.status == 200
    assert 0.95 < answer.seconds < 3
    assert len(server.callers("lame")) == 2


def test_headers_paths_and_methods_choose(rules: None, client: Client) -> None:
    assert client.versions(20) == {"v1": 20}
    assert client.versions(20, headers={"x-v2": "anything"}) == {"v2": 20}
    assert client.ask(1, "/healthz")[0].status == 418
    assert client.ask(1, "/healthz/")[0].status == 404
    assert client.ask(1, "/v1/x")[0].status == 410
    assert client.ask(1, "/v3/x")[0].status == 404
    assert client.ask(1, "/", "-X", "POST")[0].status == 403


def test_faults_hit_their_share(rules: None, client: Client) -> None:
    hit = sum(answer.status == 418 for answer in client.ask(200, "/part"))
    least, most = bounds(200, 0.5)
    assert least <= hit <= most
    (answer,) = client.ask(1, headers=case("later"))
    assert (answer.status, answer.seconds > 0.95) == (200, True)
    assert client.ask(1, headers=case("latest"))[0].seconds < 0.95


def test_a_mirror_gets_every_request_and_the_client_no_copy(rules: None, client: Client, server: Upstream) -> None:
    server.answer = lambda path, caller: 200 if caller != V2.address else 500
    answers = client.ask(20, server.through("copied"), headers=case("copy-1"))
    assert {answer.status for answer in answers} == {200}
    eventually(lambda: len(server.callers("copied")) == 40, seconds=10, what="every request came twice")
    assert server.callers("copied").count(V2.address) == 20
    client.ask(5, server.through("single"))
    assert V2.address not in server.callers("single")


def test_what_fails_is_left_out_and_others_take_over(pair: Stack, client: Client, server: Upstream) -> None:
    failing = {"10.77.0.21", "10.77.0.22"}
    pair.config["traffic"] = {
        HOST: {
            "retries": {"attempts": 0},
            "connectionPool": {"tcp": {"maxConnections": 1}, "http": {"http1MaxPendingRequests": 1}},
            "outlierDetection": {
                "consecutive5xxErrors": 3,
                "interval": "1s",
                "baseEjectionTime": "60s",
                "maxEjectionPercent": 100,
            },
            "loadBalancer": {"simple": "ROUND_ROBIN", "locality": {"failoverPriority": ["version=v1"]}},
        }
    }
    assert changes(pair.preview()) == {RULE: "update", SERVICE: "update"}
    pair.up()
    eventually(lambda: client.versions(30) == {"v1": 30}, seconds=10, what="v1 comes first")

    server.answer = lambda path, caller: time.sleep(1) or 200  # type: ignore[func-returns-value]
    crowd = [answer.status for answer in client.ask(12, server.through("crowd"), at_once=12)]
    assert set(crowd) == {200, 503}, "no limit of connections was met"
    assert len(server.callers("crowd")) == crowd.count(200) < 8

    server.answer = lambda path, caller: 500 if caller in failing else 200
    assert client.ask(1, server.through("outlier"))[0].status == 500

    def all_well() -> bool:
        return {answer.status for answer in client.ask(40, server.through("outlier"))} == {200}

    eventually(all_well, seconds=10, what="the failing VMs are left out")
    assert set(server.callers("outlier")[-40:]) == {V2.address}


def test_a_clients_place_decides_who_answers(pair: Stack, client: Client) -> None:
    locality = {"distribute": {"eu/*": {"eu/a": 100}}}
    pair.config["traffic"] = {HOST: {"loadBalancer": {"locality": locality}}}
    pair.up()
    eventually(lambda: client.versions(30).keys() == {"v1", "v2"}, seconds=10, what="clients elsewhere reach all")
    at_home = dataclasses.replace(client, namespace=V2.namespace)
    eventually(lambda: at_home.versions(30) == {"v2": 30}, seconds=10, what="clients in eu/a stay there")


def test_without_rules_both_objects_go(pair: Stack) -> None:
    del pair.config["traffic"]
    assert changes(pair.preview()) == {HOST: "delete", RULE: "delete"}
