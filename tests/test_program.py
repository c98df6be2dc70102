"""The whole program, run by the unmodified SDK against a monitor that records."""

import contextlib
import json
import re
import runpy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pulumi
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from fake_cluster import FakeCluster
from recording import UNKNOWN, Run, public_text, run, secrets

from cluster.client import ApiError, Client
from cluster.objects import ENTRIES
from components.control_plane import certificate_digest
from registration import reader
from registration.ladder import Reachability

PROJECT = Path(__file__).resolve().parents[1]
HOST_KEY = (
    ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
)
PRIVATE_KEY = (
    ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
)
ROOT = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
STACK: dict[str, Any] = {
    "cluster": {"name": "cluster1", "network": "net1", "kubeconfig": "kubeconfig"},
    "istio": {"version": "1.31.1", "charts": "charts", "hub": "lab.local/istio", "tag": "dev"},
    "hosts": {
        "sidecar": {"amd64": {"deb": {"url": "http://10.77.0.5/istio-sidecar.deb", "sha256": "0" * 64}}},
        "ssh": {"privateKeyFile": "id"},
    },
    "workloads": {
        "billing": {
            "namespace": "vm-apps",
            "serviceAccount": "billing",
            "labels": {"app": "billing"},
            "ports": {"http": 8080},
            "probe": {"httpGet": {"path": "/healthz", "port": 8080}},
            "service": {"ports": {"http": 80}},
            "vms": {
                "billing-1": {"address": "10.77.0.21", "hostKey": HOST_KEY},
                "billing-2": {"address": "10.77.0.22", "hostKey": HOST_KEY},
            },
        },
        "ledger": {
            "namespace": "vm-apps",
            "serviceAccount": "ledger",
            "vms": {"ledger-1": {"address": "10.77.0.23", "hostKey": HOST_KEY}},
        },
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The project's folder, in which the tests of a module run."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "kubeconfig").write_text(
        "apiVersion: v1\nkind: Config\nclusters: []\ncontexts: []\nusers: [{name: u, user: {token: kube-secret}}]\n"
    )
    for chart in ("base", "istiod", "gateway"):
        (folder / "charts" / chart).mkdir(parents=True)
        (folder / "charts" / chart / "Chart.yaml").touch()
    (folder / "id").write_text(PRIVATE_KEY)
    (folder / "id").chmod(0o600)
    with contextlib.chdir(folder):
        yield folder


def entries(*addresses: str) -> list[dict[str, Any]]:
    return [
        {
            "metadata": {
                "name": f"x-{address}",
                "namespace": "vm-apps",
                "creationTimestamp": "2026-11-21T11:00:00Z",
                "annotations": {
                    "istio.io/autoRegistrationGroup": "ledger" if address.endswith("23") else "billing",
                    "istio.io/connectedAt": "not looked at",
                    **({} if address.endswith("23") else {"proxy.istio.io/health-checks-enabled": "true"}),
                },
            },
            "spec": {"address": address},
            "status": {"conditions": [{"type": "Healthy", "status": "True"}]},
        }
        for address in addresses
    ]


ALL = ("10.77.0.21", "10.77.0.22", "10.77.0.23")
VMS = ("billing-1", "billing-2", "ledger-1")


GATEWAY = "/api/v1/namespaces/istio-system/services/istio-eastwestgateway"
READY = {
    "metadata": {"generation": 1},
    "spec": {"replicas": 1},
    "status": {"observedGeneration": 1, "updatedReplicas": 1, "readyReplicas": 1},
}
ISTIOD = {"metadata": {"name": "istiod-1"}, "status": {"phase": "Running"}}
KINDS = ("cluster", "listener", "endpoint", "route")
SYNCED = dict.fromkeys(["cds", "lds", "eds", "rds"], "SYNCED")
DENIED = ApiError('admission webhook "validation.istio.io" denied the request: no hosts', status=400)


def secret(vm: str) -> dict[str, Any]:
    """What a VM's token is bound to, as it was left by a run that confirmed the VM."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    annotations = {"istio-vm-mesh/used": certificate_digest(ROOT)}
    metadata = {"name": f"istio-vm-{vm}", "namespace": "vm-apps", "creationTimestamp": now, "annotations": annotations}
    return {"metadata": metadata}


def points(**ingress: str) -> dict[str, Any]:
    """A Service with a load balancer."""
    return {"status": {"loadBalancer": {"ingress": [ingress]}}}


def cluster(
    preview: bool, there: Iterable[str], serving: Sequence[dict[str, Any]], answers: Mapping[str, Any]
) -> FakeCluster:
    """A cluster that the program looks at; the arguments are those of `run_program`."""
    entries_now = iter([{"items": list(serving)}])
    synced = {f"{kind}_{what}": "1" for kind in KINDS for what in ("sent", "acked")}
    vms = [vm for workload in STACK["workloads"].values() for vm in workload["vms"]]
    proxies = [{"proxy": f"{vm}.vm-apps", "istio_version": "1.31.1", **synced} for vm in vms]

    def answer(path: str) -> Any:
        if path in answers:
            return answers[path]
        if path == ENTRIES:  # once before anything changes, then at the end
            return next(entries_now, {"items": entries(*there)})
        if path.endswith("/secrets?labelSelector=istio-vm-mesh%2Fvm"):
            return {"items": [secret(vm) for vm in vms]}
        if path.endswith("/configmaps/istio-ca-root-cert"):
            return None if preview else {"data": {"root-cert.pem": ROOT}}
        if path == GATEWAY:
            return None if preview else points(ip="10.77.0.200")
        if path.startswith("/apis/apps/v1/"):
            return READY
        if path.endswith("/pods?dryRun=All"):
            return {"spec": {"containers": [{"name": "istio-proxy"}]}}
        if path.endswith("/virtualservices?dryRun=All"):
            return DENIED
        if "/pods?labelSelector=app%3Distiod" in path:
            return {"items": [ISTIOD]}
        if path.endswith("/debug/syncz"):
            return json.dumps(proxies)
        return "1.31.1-abc-Clean" if path.endswith("/proxy/version") else None

    return FakeCluster(answer)


def run_program(
    *,
    preview: bool = False,
    failing: Iterable[str] = (),
    there: Iterable[str] = ALL,
    serving: Sequence[dict[str, Any]] = (),
    answers: Mapping[str, Any] | None = None,
) -> Run:
    """Run `__main__.py`; the cluster's answers are made up, the readers are the real ones.

    Args:
        preview: Whether it is one.
        failing: Resources that fail.
        there: Addresses that are registered at the end.
        serving: WorkloadEntries at the beginning.
        answers: What the cluster answers, by path; these go before the usual ones.
    """
    looked_at = cluster(preview, there, serving, answers or {})

    def program() -> dict[str, Any]:
        pulumi.runtime.set_all_config({f"istio-vm-mesh:{key}": json.dumps(part) for key, part in STACK.items()}, [])
        root = pulumi.runtime.get_root_resource()
        assert root is not None
        runpy.run_path(str(PROJECT / "__main__.py"))
        return dict(root.outputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "connect", lambda *_: looked_at)
        patch.setattr(reader, "tcp_probe", lambda address, port: Reachability(reachable=True))
        done = run(program, preview=preview, failing=failing)
    done.cluster = looked_at
    return done


@pytest.fixture(scope="module")
def done(project: Path) -> Run:
    return run_program()


@pytest.fixture(scope="module")
def previewed(project: Path) -> Run:
    """The first preview, before any VM is there."""
    return run_program(preview=True, there=())


def test_the_bill_of_materials(done: Run) -> None:
    assert {(r.type, r.name) for r in done.monitor.registered.values() if r.type.startswith("istiovm:")} == {
        ("istiovm:index:ControlPlane", "istio"),
        ("istiovm:index:EastWestGateway", "east-west"),
        ("istiovm:index:VmNamespace", "vm-apps"),
        ("istiovm:index:Workload", "billing"),
        ("istiovm:index:Workload", "ledger"),
        ("istiovm:index:VirtualMachine", "billing-1"),
        ("istiovm:index:VirtualMachine", "billing-2"),
        ("istiovm:index:VirtualMachine", "ledger-1"),
        ("istiovm:index:RegistrationGuard", "billing-guard"),
        ("istiovm:index:RegistrationGuard", "ledger-guard"),
        ("istiovm:index:ConfirmedEntries", "billing-guard-confirmed"),
        ("istiovm:index:ConfirmedEntries", "ledger-guard-confirmed"),
        ("istiovm:index:Registration", "registration"),
        ("istiovm:index:Confirmation", "confirmation"),
    }


def test_outputs_are_the_contracts(done: Run) -> None:
    assert set(done.values) == {"schemaVersion", "mesh", "workloads", "services", "registration"}
    assert done.values["schemaVersion"] == 1
    assert done.values["mesh"] == {
        "id": "mesh1",
        "trustDomain": "cluster.local",
        "revision": "",
        "cluster": "cluster1",
        "network": "net1",
        "istiod": {"host": "istiod.istio-system.svc", "address": "10.77.0.200", "port": 15012},
        "revisions": {"default": {"istiod": "istiod.istio-system.svc", "tags": []}},
        "gateways": {"eastWest": "10.77.0.200"},
        "rootCertificateSha256": "709e80c88487a2411e1ee4dfb9f22a861492d20c4765150c0c794abd70f8147c",
        "controlPlane": {
            "ready": True,
            "version": "1.31.1",
            "workloads": dict.fromkeys(["istio-system/istio-eastwestgateway", "istio-system/istiod"], "ready"),
            "webhooks": {"injection": "answers", "validation": "answers"},
            "proxies": {f"{vm}.vm-apps": {"version": "1.31.1", "sync": SYNCED} for vm in VMS},
            "proxyVersions": ["1.31.1"],
            "problems": [],
        },
    }
    assert done.values["workloads"]["billing"] == {
        "host": "billing.vm-apps.svc.cluster.local",
        "ports": {"http": 80},
        "namespace": "vm-apps",
        "revision": "default",
        "identity": "spiffe://cluster.local/ns/vm-apps/sa/billing",
        "vms": ["billing-1", "billing-2"],
    }
    assert done.values["workloads"]["ledger"]["host"] is None
    assert done.values["registration"]["summary"] == {"healthy": 2, "registered": 1}
    assert all(vm["complete"] for vm in done.values["registration"]["vms"].values())


def test_every_kubernetes_object_goes_to_the_declared_cluster(done: Run) -> None:
    provider = done["cluster"]
    assert provider.type == "pulumi:providers:kubernetes"
    # A path; the file's contents would put its credentials into the state. With an identifier, a kubeconfig that leads
    # elsewhere is an error where the cluster is not, and never a reason to replace every object.
    assert provider.inputs == {
        "kubeconfig": "kubeconfig",
        "clusterIdentifier": "cluster1",
        "enableServerSideApply": "true",
        "enableConfigMapMutable": "true",
    }
    for resource in done.monitor.registered.values():
        if resource.type.startswith("kubernetes:"):
            assert resource.provider == f"{provider.urn}::id-of-cluster", resource.name


def test_istios_kinds_wait_for_the_control_plane_that_validates_them(done: Run) -> None:
    for resource in done.monitor.registered.values():
        if resource.type.startswith("kubernetes:networking.istio.io") and not resource.type.endswith("Patch"):
            assert {"istio-base", "istio-istiod"} <= resource.dependency_names, resource.name


def test_a_vm_waits_for_its_group_and_the_way_to_istiod(done: Run) -> None:
    assert done["billing-1-configure"].dependency_names == {"billing-group"}
    assert {"east-west-chart", "east-west-istiod", "east-west-istiod-routes", "vm-apps-billing"} <= (
        done["billing-group"].dependency_names
    )


def test_nothing_depends_on_another_vm(done: Run) -> None:
    vms = ("billing-1", "billing-2", "ledger-1")
    for resource in done.monitor.registered.values():
        if resource.type.endswith(":WorkloadGroupPatch"):  # what the guard forgets once all of a workload are confirmed
            continue
        needed = {vm for vm in vms for name in resource.dependency_names if name.startswith(f"{vm}-")}
        assert all(resource.name.startswith(vm) for vm in needed), (resource.name, needed)


def test_the_guard_knows_what_vms_register_before_they_do_and_forgets_the_rest_after_the_last(done: Run) -> None:
    files = done["billing-2-configure"].inputs["stdin"]
    declared = done["billing-guard-entries"].inputs["metadata"]["annotations"]
    lines = declared[f"entry.{declared['declared.10.77.0.22']}"].splitlines()
    registered = json.loads(re.findall(r"ISTIO_METAJSON_LABELS='(.*?)'", files)[0])
    del registered["istio-vm-mesh/configuration"]
    assert lines[:-3] == [f"label {key}={value}" for key, value in sorted(registered.items())]
    assert lines[-3:] == ["network=net1", "serviceAccount=billing", "locality="]
    assert "CLOUD_PLATFORM='none'" in files, "else a cloud would say where the VM is"
    assert "billing-guard-entries" in done["billing-group"].dependency_names
    assert done["billing-guard-confirmed-patch"].dependency_names == {"billing-1-confirm", "billing-2-confirm"}


def test_the_guard_of_a_workload_without_vms_says_nothing_of_any(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    billing = {**STACK["workloads"]["billing"], "vms": {}}
    monkeypatch.setitem(STACK, "workloads", {**STACK["workloads"], "billing": billing})
    found = run_program()
    assert "billing-guard-confirmed-patch" not in found.monitor.registered
    assert "annotations" not in found["billing-guard-entries"].inputs["metadata"]
    assert "billing-guard-entries" in found["billing-group"].dependency_names


def test_no_secret_stands_where_it_can_be_read(done: Run) -> None:
    secrets = [line for line in PRIVATE_KEY.splitlines() if "PRIVATE KEY" not in line]
    secrets += ["kube-secret"]
    everything = [public_text(resource.inputs) for resource in done.monitor.registered.values()]
    everything += [json.dumps(item) for item in (*done.monitor.invokes, *done.monitor.outputs.values(), done.values)]
    assert len(everything) > 40
    for text in everything:
        assert not [secret for secret in secrets if secret in text]


@pytest.mark.parametrize("step", ["configure", "membership", "enrol", "confirm"])
def test_one_failed_vm_leaves_every_output_whole(project: Path, step: str) -> None:
    done = run_program(failing=[f"billing-1-{step}"], there=ALL[1:])
    vms = done.values["registration"]["vms"]
    assert {name: vm["state"] for name, vm in vms.items()} == {
        "billing-1": "failed",
        "billing-2": "healthy",
        "ledger-1": "registered",
    }
    assert f"billing-1-{step}" in vms["billing-1"]["hint"]
    assert UNKNOWN not in json.dumps(done.values)


def test_vms_that_serve_change_one_after_the_other_and_the_first_failure_halts_the_rest(project: Path) -> None:
    done = run_program(serving=entries("10.77.0.21", "10.77.0.22"), failing=["billing-1-confirm"])
    assert "rollout-halted" not in done["billing-1-configure"].inputs["create"]
    halted = done["billing-2-configure"].inputs["create"]
    assert "the change of billing has stopped at billing-1, in wave 1 of 2" in halted
    assert "left as they are: billing-2" in halted
    assert "rollout-halted" not in done["ledger-1-configure"].inputs["create"]
    order = list(done.monitor.registered)
    assert order.index("billing-1-confirm") < order.index("billing-2-configure")


def test_the_first_preview_knows_what_does_not_come_from_the_cluster(previewed: Run) -> None:
    assert previewed.values["mesh"] == UNKNOWN
    assert previewed.values["workloads"]["billing"]["host"] == "billing.vm-apps.svc.cluster.local"
    assert previewed.values["registration"]["summary"] == {"reachable": 3}


def test_with_agent_and_bastion_no_key_and_no_socket_is_in_the_state(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/socket-of-today")
    ssh = {"agent": True, "bastion": {"host": "gate.example.com", "user": "jump", "hostKey": HOST_KEY}}
    monkeypatch.setitem(STACK, "hosts", {**STACK["hosts"], "ssh": ssh})
    found = run_program()
    on_hosts = [r for r in found.monitor.registered.values() if r.type.startswith("command:remote:")]
    assert len(on_hosts) >= 9
    for command in on_hosts:
        (connection,) = [s for s in secrets(command.inputs) if isinstance(s, dict) and "host" in s]
        assert (connection["proxy"]["host"], connection["proxy"]["user"]) == ("gate.example.com", "jump")
        assert connection["proxy"]["hostKey"] == connection["hostKey"] == HOST_KEY
        text = json.dumps(connection)
        assert "privateKey" not in text and "socket-of-today" not in text


def test_a_static_vm_adds_one_workload_entry_and_nothing_else(done: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    billing = STACK["workloads"]["billing"]
    vms = {**billing["vms"], "legacy-1": {"address": "10.77.0.100", "static": True}}
    monkeypatch.setitem(STACK, "workloads", {**STACK["workloads"], "billing": {**billing, "vms": vms}})
    found = run_program()
    assert found.names - done.names == {"legacy-1-static"}
    assert found["legacy-1-static"].type == "kubernetes:networking.istio.io/v1:WorkloadEntry"
    same = [name for name in done.names if found[name].inputs == done[name].inputs]
    assert set(same) == done.names
    assert found.values["workloads"]["billing"]["vms"] == ["billing-1", "billing-2", "legacy-1"]


def test_the_cluster_is_asked_as_often_for_many_vms_as_for_few(done: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    few = done.cluster
    billing = STACK["workloads"]["billing"]
    vms = {f"billing-{n}": {"address": f"10.77.1.{n}", "hostKey": HOST_KEY} for n in range(1, 21)}
    monkeypatch.setitem(STACK, "workloads", {**STACK["workloads"], "billing": {**billing, "vms": vms}})
    many = run_program(there=["10.77.0.23", *(vm["address"] for vm in vms.values())]).cluster
    read = [sorted(set(one.asked) - {path for method, path, _ in one.sent if method == "PATCH"}) for one in (many, few)]
    assert read[0] == read[1]
    assert few.asked.count(ENTRIES) == 2, "before anything changes, and at the end"


def test_a_cluster_that_gives_no_answer_ends_the_program_with_one_message(project: Path) -> None:
    answers = {ENTRIES: ApiError("the Kubernetes API at https://x refuses connections")}
    with pytest.raises(pulumi.RunError, match=r"^the Kubernetes API at https://x refuses connections$"):
        run_program(preview=True, answers=answers)


def test_who_may_not_read_secrets_still_previews(previewed: Run) -> None:
    path = "/api/v1/namespaces/vm-apps/secrets?labelSelector=istio-vm-mesh%2Fvm"
    forbidden = ApiError("the Kubernetes API refused: secrets is forbidden", status=403)
    assert run_program(preview=True, there=(), answers={path: forbidden}).names == previewed.names


def test_vms_of_an_earlier_version_are_refused_before_anything_is_made(project: Path) -> None:
    """Their Secrets were resources: this version would have them deleted, and what stood for the VMs' leaving."""
    path = "/api/v1/namespaces/vm-apps/secrets?labelSelector=istio-vm-mesh%2Fvm"
    metadata = {"name": "istio-vm-billing-1", "namespace": "vm-apps", "labels": {"istio-vm-mesh/vm": "billing-1"}}

    def answers(manager: str) -> dict[str, Any]:
        return {path: {"items": [{"metadata": {**metadata, "managedFields": [{"manager": manager}]}}]}}

    run_program(preview=True, answers=answers("istio-vm-mesh"))
    with pytest.raises(pulumi.RunError) as raised:
        run_program(preview=True, answers=answers("pulumi-kubernetes-1a2b"))
    assert str(raised.value) == (
        "VMs billing-1 were joined by an earlier version of this program, and this one would take them out of the "
        "mesh: destroy the stack with that version, then run up with this one"
    )


def test_two_runs_register_the_same(done: Run) -> None:
    first, second = (
        {name: (r.inputs, r.dependencies) for name, r in one.monitor.registered.items()}
        for one in (done, run_program())
    )
    assert first == second


def test_it_stays_a_bill_of_materials() -> None:
    assert len((PROJECT / "__main__.py").read_text().splitlines()) < 100


def test_no_more_vms_are_under_way_than_the_engine_has_workers(done: Run) -> None:
    """Here it has one."""
    order = [name for name in done.monitor.registered if name.endswith(("-configure", "-confirm"))]
    assert len(order) == 6
    for first, last in zip(order[::2], order[1::2], strict=True):
        assert (first, last) == (first, first.replace("-configure", "-confirm"))
