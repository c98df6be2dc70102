"""What `make verify` plans, and what it thinks of answers; the asking itself is tried on the lab."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_server import TOKEN, Api, serving
from settings_samples import HOST_KEY
from stack_strategies import base, project

from hosts.ssh import Answer
from settings import Settings, parse
from settings.traffic_models import HostTraffic
from verify import judge, plan
from verify import pod as verify_pod
from verify.__main__ import main
from verify.bounds import bounds
from verify.callers import from_vms
from verify.judge import FAILED, LEFT_OUT, OK, Row
from verify.pod import NAME, SEEN, manifests

HOST = "billing.shop.svc.cluster.local"
BILLING: dict[str, Any] = {
    "namespace": "shop",
    "serviceAccount": "billing",
    "labels": {"app": "billing"},
    "ports": {"tcp-admin": 9000, "http": 8080},
    "probe": {"httpGet": {"path": "/healthz", "port": 8080}},
    "service": {"ports": {"http": 80}},
}


@pytest.fixture
def stack(tmp_path: Path) -> Settings:
    vms = {
        "billing-1": {"address": "10.77.0.21", "hostKey": HOST_KEY},
        "old-1": {"address": "10.77.0.29", "static": True},
    }
    services = {
        "partner": {"namespace": "shop", "hosts": ["partner.example.com"], "ports": {"http": 80}, "resolution": "DNS"},
        "raw": {"namespace": "shop", "hosts": ["raw.example.com"], "ports": {"http": 81}, "resolution": "NONE"},
        "range": {
            "namespace": "shop",
            "hosts": ["range.example.com"],
            "ports": {"http": 82},
            "selector": {"app": "billing"},
            "addresses": ["10.9.0.0/24"],
        },
    }
    raw = {**base(), "workloads": {"billing": {**BILLING, "vms": vms}}, "services": services}
    raw["hosts"]["ssh"]["knownHostsFile"] = "known_hosts"
    raw["hosts"]["istiodAddress"] = "10.77.0.10"
    raw["namespaces"] = {"shop": {"mutualTls": "STRICT"}}
    return parse(raw, project_dir=project(tmp_path))


@pytest.mark.parametrize(
    ("requests", "percent", "wanted"),
    [(200, 90, (165, 192)), (200, 10, (8, 35)), (100, 50, (34, 66)), (100, 0, (0, 0)), (100, 100, (100, 100))],
)
def test_bounds_are_those_of_the_binomial_distribution(requests: int, percent: int, wanted: tuple[int, int]) -> None:
    assert bounds(requests, percent) == wanted


def test_more_ways_to_err_make_wider_bounds() -> None:
    (least, most), (lower, upper) = bounds(200, 50), bounds(200, 50, ways=10)
    assert lower < least and most < upper


def test_a_distribution_is_judged_by_each_subset() -> None:
    weights = {"v1": 90, "v2": 10}
    assert judge.distribution(HOST, weights, {"v1": 180, "v2": 20}).verdict == OK
    assert judge.distribution(HOST, weights, {"v1": 100, "v2": 100}).verdict == FAILED
    assert judge.distribution(HOST, {"v1": 100, "v2": 0}, {"v1": 199, "v2": 1}).verdict == FAILED
    assert judge.distribution(HOST, weights, {}).verdict == FAILED


def test_a_timeout_is_seen_by_its_status_and_its_time() -> None:
    assert judge.timeout(HOST, 2, 2, [(504, 2.01), (504, 2.3)]).verdict == OK
    for answers in ([(504, 0.1)], [(504, 9.0)], [(503, 2.0)], [(504, 2.0), (200, 2.0)], []):
        assert judge.timeout(HOST, 2, 2, answers).verdict == FAILED


def test_a_timeout_of_one_attempt_may_end_a_request_sooner() -> None:
    rules = HostTraffic.model_validate({"timeout": "2s", "retries": {"attempts": 2, "perTryTimeout": "1s"}})
    first = plan.first_end(rules)
    assert judge.timeout(HOST, first, 2, [(504, 1.01), (504, 2.1)]) == Row(
        "timeout", HOST, OK, "HTTP 504 after 1.0 s, HTTP 504 after 2.1 s (2 s, 1 s an attempt)"
    )
    assert judge.timeout(HOST, first, 2, [(504, 0.5)]).verdict == FAILED
    assert (plan.connect_seconds(rules), plan.first_end(HostTraffic.model_validate({"timeout": "3s"}))) == (10, 3)
    slow = HostTraffic.model_validate({"connectionPool": {"tcp": {"connectTimeout": "500ms"}}})
    assert plan.connect_seconds(slow) == 0.5


def test_retries_are_counted() -> None:
    assert judge.retries(HOST, 2, 3, 6).verdict == OK
    assert judge.retries(HOST, 2, 3, 0).verdict == FAILED


@pytest.mark.parametrize(
    ("code", "guarded", "verdict"),
    [
        ("200", False, OK),
        ("404", False, OK),
        ("503", False, FAILED),
        ("000", False, FAILED),
        ("", False, FAILED),
        ("403", False, FAILED),
        ("403", True, LEFT_OUT),
    ],
)
def test_an_answer_is_one_of_an_application(code: str, guarded: bool, verdict: str) -> None:
    assert judge.answered("pod to VM", "billing", code, guarded=guarded).verdict == verdict


def test_who_called_is_told_by_the_certificate() -> None:
    wanted = "spiffe://cluster.local/ns/shop/sa/billing"
    assert judge.identity("billing-1", wanted, f"By=spiffe://x;Hash=0;URI={wanted}").verdict == OK
    assert judge.identity("billing-1", wanted, "URI=spiffe://cluster.local/ns/shop/sa/other").verdict == FAILED
    assert judge.identity("billing-1", wanted, "") == Row(
        "mTLS, VM to pod", "billing-1", FAILED, "the pod saw no certificate"
    )


def test_plain_text_is_refused_by_no_answer_at_all() -> None:
    assert judge.plain_text("billing-1", True, 56, "000").verdict == OK
    assert judge.plain_text("billing-1", True, 0, "200") == Row("plain text refused", "billing-1", FAILED, "HTTP 200")
    # A machine that is off refuses nothing.
    assert judge.plain_text("billing-1", True, 28, "000").verdict == FAILED
    assert judge.plain_text("billing-1", False, 0, "").verdict == LEFT_OUT


def test_addresses_of_the_mesh() -> None:
    assert judge.resolved("a.example.com", ["240.240.0.7", "2001:2::7"], []).verdict == OK
    assert judge.resolved("a.example.com", ["10.9.0.1"], ["10.9.0.0/24"]).verdict == OK
    assert judge.resolved("a.example.com", ["93.184.216.34"], []).verdict == FAILED
    assert judge.resolved("a.example.com", [], []).verdict == FAILED


def test_among_vms_others_than_the_caller_must_answer() -> None:
    def judged(codes: list[str], *by: str, guarded: bool = False) -> tuple[str, str]:
        found = judge.among_vms("a-1 to b", "a-1", codes, by, guarded=guarded)
        return found.verdict, found.figures

    assert judged(["200", "200"], "a-1", "b-1") == (OK, "HTTP 200 from a-1, b-1")
    assert judged(["200", "000"], "a-1", "b-1") == (FAILED, "no answer from a-1, b-1")
    assert judged(["200"], "a-1") == (LEFT_OUT, "nobody but a-1 itself was asked")
    assert judged(["403"], "b-1", guarded=True)[0] == LEFT_OUT
    assert judged([]) == (FAILED, "no answer")


def test_the_plan(stack: Settings) -> None:
    assert plan.targets(stack) == {"billing": plan.Target(host=HOST, port=80, path="/healthz")}
    assert [(caller.vm, caller.identity) for caller in plan.callers(stack)] == [
        ("billing-1", "spiffe://cluster.local/ns/shop/sa/billing")
    ]
    assert plan.direct(stack) == {"billing-1": ("10.77.0.21", 8080, True)}
    # With resolution NONE, or a range of addresses, a host has no address to resolve to.
    partner = plan.outside(stack)
    assert [(host, each.target, each.home) for host, each in partner.items()] == [
        ("partner.example.com", plan.Target(host="partner.example.com", port=80), "shop")
    ]
    assert plan.routed(stack, "pods.shop.svc.cluster.local", 5000) == plan.Target(
        host="pods.shop.svc.cluster.local", port=5000
    )
    assert plan.routed(stack, "pods.shop.svc.cluster.local") is None


def test_who_sees_a_host_is_by_its_namespaces() -> None:
    def seen(*export_to: str) -> list[bool]:
        each = plan.Outside(host="a.example.com", target=None, home="shop", export_to=export_to)
        return [each.seen_in(namespace) for namespace in ("shop", "other")]

    assert [seen(), seen("*"), seen("."), seen("other"), seen("~")] == [
        [True, True],
        [True, True],
        [True, False],
        [False, True],
        [False, False],
    ]


CLUSTERS = "outbound|80||billing.shop.svc.cluster.local::10.77.0.{}:8080::rq_total::{}"
ON_VM = f"""pod HTTP/1.1 200 OK server: envoy {SEEN}: Hash=0;URI=spiffe://cluster.local/ns/shop/sa/billing
sent billing {CLUSTERS.format(21, 7)} {CLUSTERS.format(29, 1)}
vm billing 200 200
sent billing {CLUSTERS.format(21, 7)} {CLUSTERS.format(29, 3)}
dns partner.example.com 240.240.0.7
external partner.example.com 503
"""


def test_what_a_vm_said_becomes_rows(stack: Settings) -> None:
    answer, scripts = Answer(status=0, output=ON_VM), {}

    def on_vms(asked: Mapping[str, str], seconds: float) -> Mapping[str, Answer]:
        scripts.update(asked)
        return dict.fromkeys(asked, answer)

    assert [(row.verdict, row.check, row.subject, row.figures) for row in from_vms(stack, on_vms)] == [
        (OK, "VM to pod", "billing-1", "HTTP 200"),
        (OK, "mTLS, VM to pod", "billing-1", "spiffe://cluster.local/ns/shop/sa/billing"),
        (OK, "VM to VM", "billing-1 to billing", "HTTP 200 from old-1"),
        (OK, "DNS capture", "billing-1 to partner.example.com", "240.240.0.7"),
        (FAILED, "host by DNS capture", "billing-1 to partner.example.com", "HTTP 503"),
    ]
    assert "getent ahosts partner.example.com" in scripts["billing-1"]
    answer = Answer(status=0, output="pod\n")
    assert [row.verdict for row in from_vms(stack, on_vms)] == [FAILED] * 4


def test_a_host_that_is_hidden_from_a_caller_is_not_asked_there(stack: Settings) -> None:
    service = stack.services["partner"].model_copy(update={"export_to": ["other"]})
    hidden = dataclasses.replace(stack, services={"partner": service})
    (row,) = [
        row for row in from_vms(hidden, lambda asked, seconds: {"billing-1": Answer()}) if "partner" in row.subject
    ]
    assert row == Row(
        "DNS capture", "billing-1 to partner.example.com", LEFT_OUT, "exportTo hides it from the namespace shop"
    )


def test_weights_are_of_the_hosts_own_subsets() -> None:
    routes = [{"subset": "v1", "weight": 90}, {"subset": "v2", "weight": 10}]
    assert plan.weights(HostTraffic.model_validate({"routes": routes})) == {"v1": 90, "v2": 10}
    assert plan.weights(HostTraffic.model_validate({"routes": [{"host": HOST}]})) == {}


@pytest.mark.parametrize(("text", "wanted"), [("2s", 2), ("250ms", 0.25), ("1.5m", 90), ("1h", 3600)])
def test_seconds(text: str, wanted: float) -> None:
    assert plan.seconds(text) == wanted


def test_the_pod_is_injected_by_the_stacks_revision_and_talks_past_its_sidecar_to_vms_alone() -> None:
    namespace, pod, _ = manifests("hub/proxyv2:1", "", ["10.77.0.21"])
    assert namespace["metadata"] == {"name": NAME, "labels": {"istio-injection": "enabled"}}
    excluded = pod["metadata"]["annotations"]["traffic.sidecar.istio.io/excludeOutboundIPRanges"]
    assert (excluded, pod["spec"]["containers"][0]["image"]) == ("10.77.0.21/32", "hub/proxyv2:1")
    assert manifests("i", "canary", [])[0]["metadata"]["labels"] == {"istio.io/rev": "canary"}


def test_a_table_ends_with_how_many_are_what() -> None:
    rows = [Row("weights", "a", OK, "90 of 100"), Row("timeout", "long-name", FAILED), Row("retries", "-", LEFT_OUT)]
    assert judge.table(rows).splitlines() == [
        "ok        weights  a          90 of 100",
        "FAILED    timeout  long-name",
        "left out  retries  -",
        "3 checks: 1 ok, 1 FAILED, 1 left out",
    ]


POD = f"/api/v1/namespaces/{NAME}/pods/{NAME}"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A cluster in which the pod never becomes ready, and a stack file for it."""
    folder = project(tmp_path)
    (folder / "Pulumi.yaml").write_text("name: istio-vm-mesh\n")
    (folder / "api").mkdir()
    monkeypatch.chdir(folder)
    with serving(folder / "api") as running:
        stack = base()
        stack["cluster"]["kubeconfig"] = running.kubeconfig({"token": TOKEN})
        stack["cluster"].pop("context", None)
        (folder / "stack.yaml").write_text(
            yaml.safe_dump({"config": {f"istio-vm-mesh:{key}": value for key, value in stack.items()}})
        )
        for path in ("/api/v1/namespaces", POD.rpartition("/")[0], f"/api/v1/namespaces/{NAME}/services", POD):
            running.answer(path, {})
        yield running


def calls(api: Api) -> list[str]:
    """What was done, but for the looks whether it has worked."""
    kinds = [f"{one.method} {one.path.rsplit('/', 1)[1]}" for one in api.seen if one.method != "GET"]
    return [*dict.fromkeys(kinds), *kinds[-1:]]


DONE = ["DELETE istio-vm-mesh-verify", "POST namespaces", "POST pods", "POST services", "DELETE istio-vm-mesh-verify"]


def test_the_pod_goes_although_it_never_came(
    api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_pod, "READY_SECONDS", 0)
    assert main(["--stack-file", "stack.yaml"]) == 1
    assert capsys.readouterr().err == ("error: namespace istio-vm-mesh-verify: its pod is not ready after 0 s\n")
    assert calls(api) == DONE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_pod_goes_when_it_is_interrupted(api: Api, number: signal.Signals) -> None:
    argv = [sys.executable, "-m", "verify", "--stack-file", "stack.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        end = time.monotonic() + 30
        while time.monotonic() < end and not any(one.path == POD for one in api.seen):
            time.sleep(0.1)
        run.send_signal(number)
        _, said = run.communicate(timeout=20)
    assert (run.returncode, said) == (130, "interrupted; the pod is removed\n")
    assert calls(api) == DONE


def test_too_few_requests_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--stack-file", "x", "--requests", "20"])
    assert "--requests: 100 or more" in capsys.readouterr().err


def test_the_pods_server_is_json_that_a_shell_need_not_read() -> None:
    (_, pod, _) = manifests("i", "", [])
    command = pod["spec"]["containers"][0]["command"]
    assert json.loads(command[-1])["static_resources"]["listeners"]
