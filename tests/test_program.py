"""The whole program, run by the unmodified SDK against a monitor that records."""

import json
import re
import runpy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from recording import UNKNOWN, Run, public_text, run, secrets
from registration.request import parse

from registration import reader, waves, waves_reader
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


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "kubeconfig").write_text(
        "apiVersion: v1\nkind: Config\nclusters: []\ncontexts: []\nusers: [{name: u, user: {token: kube-secret}}]\n"
    )
    for chart in ("base", "istiod", "gateway"):
        (tmp_path / "charts" / chart).mkdir(parents=True)
        (tmp_path / "charts" / chart / "Chart.yaml").touch()
    (tmp_path / "id").write_text(PRIVATE_KEY)
    (tmp_path / "id").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


def run_program(
    *,
    preview: bool = False,
    failing: Iterable[str] = (),
    there: Iterable[str] = ALL,
    serving: Sequence[dict[str, Any]] = (),
    answers: Mapping[str, str] | None = None,
) -> Run:
    """Run `__main__.py`; the mesh's answers are made up, the reader is the real one.

    Args:
        preview: Whether it is one.
        failing: Resources that fail.
        there: Addresses that are registered at the end.
        serving: WorkloadEntries at the beginning.
        answers: What looks at the cluster print, by a part of their command; they go before the usual ones.
    """

    def invoked(command: str, args: dict[str, Any]) -> str:
        for part, answer in (answers or {}).items():
            if part in command:
                return answer
        if "istio-ca-root-cert" in command:
            return "" if preview else ROOT
        if "istio-eastwestgateway" in command:
            return "" if preview else '[{"ip": "10.77.0.200"}]'
        if command.endswith("-m registration.credential_reader"):
            return json.dumps({vm["vm"]["name"]: {"number": 1} for vm in json.loads(args["stdin"])["holders"]})
        if command.endswith("-m registration.waves_reader"):
            get = {reader.ENTRIES: {"items": serving}}.get
            return waves.dump(waves_reader.read(parse(args["stdin"]).vms, get))
        if command.endswith("-m registration.mesh_reader"):
            request = json.loads(args["stdin"])
            return json.dumps({"ready": True, "looked at": [one["name"] for one in request["workloads"]]})
        assert command.endswith("-m registration.reader"), command
        sources = reader.Sources(
            get=lambda path: {"items": entries(*there)} if path == reader.ENTRIES else {},
            probe=lambda address, port: Reachability(reachable=True),
        )
        return json.dumps(reader.read(parse(args["stdin"]), sources)[0])

    def program() -> dict[str, Any]:
        pulumi.runtime.set_all_config({f"istio-vm-mesh:{key}": json.dumps(part) for key, part in STACK.items()}, [])
        root = pulumi.runtime.get_root_resource()
        assert root is not None
        runpy.run_path(str(PROJECT / "__main__.py"))
        return dict(root.outputs)

    return run(program, invoked, preview=preview, failing=failing)


@pytest.fixture
def done(project: Path) -> Run:
    return run_program()


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
        ("istiovm:index:Credentials", "credentials"),
        ("istiovm:index:RegistrationGuard", "billing-guard"),
        ("istiovm:index:RegistrationGuard", "ledger-guard"),
        ("istiovm:index:ConfirmedEntries", "billing-guard-confirmed"),
        ("istiovm:index:ConfirmedEntries", "ledger-guard-confirmed"),
        ("istiovm:index:Registration", "registration"),
        ("istiovm:index:Rollout", "rollout"),
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
        "controlPlane": {"ready": True, "looked at": ["istiod", "istio-eastwestgateway"]},
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
        if resource.type.startswith("kubernetes:networking.istio.io"):
            assert {"istio-base", "istio-istiod"} <= resource.dependency_names, resource.name


def test_a_vm_waits_for_its_group_and_the_way_to_istiod(done: Run) -> None:
    assert {"billing-group", "east-west-chart", "east-west-istiod", "east-west-istiod-routes", "vm-apps-billing"} <= (
        done["billing-1-configure"].dependency_names
    )


def test_nothing_depends_on_another_vm(done: Run) -> None:
    vms = ("billing-1", "billing-2", "ledger-1")
    for resource in done.monitor.registered.values():
        if resource.type.endswith(":ConfigMapPatch"):  # what the guard forgets once all of a workload are confirmed
            continue
        needed = {vm for vm in vms for name in resource.dependency_names if name.startswith(f"{vm}-")}
        assert all(resource.name.startswith(vm) for vm in needed), (resource.name, needed)


def test_the_guard_knows_what_vms_register_before_they_do_and_forgets_the_rest_after_the_last(done: Run) -> None:
    files = done["billing-2-configure"].inputs["stdin"]
    declared = done["billing-guard-entries"].inputs["data"]
    lines = declared[f"entry.{declared['declared.10.77.0.22']}"].splitlines()
    registered = json.loads(re.findall(r"ISTIO_METAJSON_LABELS='(.*?)'", files)[0])
    del registered["istio-vm-mesh/configuration"]
    assert lines[:-3] == [f"label {key}={value}" for key, value in sorted(registered.items())]
    assert lines[-3:] == ["network=net1", "serviceAccount=billing", "locality="]
    assert "CLOUD_PLATFORM='none'" in files, "else a cloud would say where the VM is"
    assert "billing-guard-entries" in done["billing-2-configure"].dependency_names
    assert done["billing-guard-confirmed-patch"].dependency_names == {"billing-1-returned", "billing-2-returned"}


def test_no_secret_stands_where_it_can_be_read(done: Run) -> None:
    secrets = [line for line in PRIVATE_KEY.splitlines() if "PRIVATE KEY" not in line]
    secrets += ["kube-secret", *(f"output of {vm}-token" for vm in ("billing-1", "billing-2", "ledger-1"))]
    everything = [public_text(resource.inputs) for resource in done.monitor.registered.values()]
    everything += [json.dumps(item) for item in (*done.monitor.invokes, *done.monitor.outputs.values(), done.values)]
    assert len(everything) > 40
    for text in everything:
        assert not [secret for secret in secrets if secret in text]


@pytest.mark.parametrize("step", ["configure", "secret", "token", "entry", "enrol", "healthy", "confirm"])
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


def test_the_first_preview_knows_what_does_not_come_from_the_cluster(project: Path) -> None:
    done = run_program(preview=True, there=())
    assert done.values["mesh"] == UNKNOWN
    assert done.values["workloads"]["billing"]["host"] == "billing.vm-apps.svc.cluster.local"
    assert done.values["registration"]["summary"] == {"reachable": 3}


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


def test_a_static_vm_adds_one_workload_entry_and_nothing_else(
    project: Path, done: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    billing = STACK["workloads"]["billing"]
    vms = {**billing["vms"], "legacy-1": {"address": "10.77.0.100", "static": True}}
    monkeypatch.setitem(STACK, "workloads", {**STACK["workloads"], "billing": {**billing, "vms": vms}})
    found = run_program()
    assert found.names - done.names == {"legacy-1-static"}
    assert found["legacy-1-static"].type == "kubernetes:networking.istio.io/v1:WorkloadEntry"
    same = [name for name in done.names if found[name].inputs == done[name].inputs]
    assert set(same) == done.names
    assert found.values["workloads"]["billing"]["vms"] == ["billing-1", "billing-2", "legacy-1"]


def test_two_runs_register_the_same(project: Path) -> None:
    first, second = (
        {name: (r.inputs, r.dependencies) for name, r in run_program().monitor.registered.items()} for _ in range(2)
    )
    assert first == second


def test_it_stays_a_bill_of_materials() -> None:
    assert len((PROJECT / "__main__.py").read_text().splitlines()) < 100
