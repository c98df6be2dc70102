"""What a right stack becomes: defaults, connections, packages, host keys."""

import copy
import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from settings_samples import DIGEST, ECDSA_KEY, HOST_KEY, PEM_KEY, PRIVATE_KEY, RSA_KEY, hashed

from settings import BastionLogin, SidecarPackage, files, host_keys, parse, service_host
from settings.models import RELEASE_CHARTS
from settings.problems import Refused


def test_defaults(stack: dict[str, Any], project: Path) -> None:
    stack["cluster"] = {"name": "cluster1", "network": "net1"}
    stack["istio"] = {"version": "1.31.1", "hub": None, "caSecret": None}
    stack["hosts"]["ssh"] = None
    stack["sshPrivateKey"] = PRIVATE_KEY
    stack["workloads"] = {"batch": {"namespace": "vm-batch", "serviceAccount": "batch", "ports": None, "vms": None}}
    del stack["eastWestGateway"]
    settings = parse(stack, project_dir=project)
    assert settings.cluster.kubeconfig is None
    assert settings.istio.model_dump() == {
        "install": "helm",
        "version": "1.31.1",
        "charts": RELEASE_CHARTS,
        "hub": "docker.io/istio",
        "tag": None,
        "revision": "",
        "revision_tags": (),
        "revisions": {},
        "mesh_id": "mesh1",
        "trust_domain": "cluster.local",
        "registration_guard": True,
        "mutual_tls": None,
        "remove_crds": False,
        "values": {},
    }
    assert settings.east_west_gateway.service == "LoadBalancer"
    assert settings.east_west_gateway.expose_services is True
    workload = settings.workloads["batch"]
    assert (workload.ports, workload.vms, workload.probe, workload.service) == ({}, {}, None, None)
    assert service_host("batch", workload) is None
    assert settings.connections == {}


def test_a_stack_may_have_no_workload(stack: dict[str, Any], project: Path) -> None:
    del stack["workloads"], stack["hosts"]["ssh"]
    assert parse(stack, project_dir=project).workloads == {}


def test_connections_merge_what_a_vm_says_over_what_holds_for_all(stack: dict[str, Any], project: Path) -> None:
    vms = stack["workloads"]["billing"]["vms"]
    vms["billing-3"]["ssh"] = {"user": "root", "privateKeyFile": "id_pem"}
    connections = parse(stack, project_dir=project).connections
    assert {name: (c.user, c.port) for name, c in connections.items()} == {
        "billing-1": ("deploy", 22),
        "billing-2": ("deploy", 2222),
        "billing-3": ("root", 22),
    }
    assert {c.host_key for c in connections.values()} == {HOST_KEY}
    keys = {name: c.private_key.get_secret_value() for name, c in connections.items()}
    assert keys == {"billing-1": PRIVATE_KEY, "billing-2": PRIVATE_KEY, "billing-3": PEM_KEY}
    assert "PRIVATE" not in repr(connections)


def test_the_private_key_may_be_a_secret(stack: dict[str, Any], project: Path) -> None:
    del stack["hosts"]["ssh"]["privateKeyFile"]
    stack["sshPrivateKey"] = f"\n{PRIVATE_KEY}\n\n"
    connections = parse(stack, project_dir=project).connections
    assert connections["billing-1"].private_key.get_secret_value() == PRIVATE_KEY


def test_no_shared_key_is_needed_where_every_vm_has_one(stack: dict[str, Any], project: Path) -> None:
    del stack["hosts"]["ssh"]["privateKeyFile"]
    for vm in stack["workloads"]["billing"]["vms"].values():
        vm.setdefault("ssh", {})["privateKeyFile"] = "id"
    assert len(parse(stack, project_dir=project).connections) == 3


def test_a_bastion_is_logged_in_to_like_the_vm_unless_it_says_otherwise(stack: dict[str, Any], project: Path) -> None:
    stack["hosts"]["ssh"]["bastion"] = {"host": "gate.example.com", "hostKey": f"{ECDSA_KEY} gate"}
    vms = stack["workloads"]["billing"]["vms"]
    vms["billing-1"]["ssh"] = {"user": "root", "privateKeyFile": "id_pem"}
    vms["billing-2"]["ssh"]["bastion"] = {"host": "10.0.0.1", "user": "jump", "agent": "/run/agent", "port": 22}
    vms["billing-3"]["ssh"] = {"direct": True}
    connections = parse(stack, project_dir=project).connections
    gate = BastionLogin(
        host="gate.example.com", user="root", port=22, host_key=ECDSA_KEY, private_key=SecretStr(PEM_KEY)
    )
    other = BastionLogin(
        host="10.0.0.1", user="jump", port=22, host_key=HOST_KEY, agent=True, agent_socket="/run/agent"
    )
    bastions = {name: connection.bastion for name, connection in connections.items()}
    assert bastions == {"billing-1": gate, "billing-2": other, "billing-3": None}


def test_an_agent_takes_the_place_of_a_key(stack: dict[str, Any], project: Path) -> None:
    del stack["hosts"]["ssh"]["privateKeyFile"]
    stack["hosts"]["ssh"]["agent"] = True
    vms = stack["workloads"]["billing"]["vms"]
    vms["billing-2"]["ssh"]["privateKeyFile"] = "id"
    vms["billing-3"]["ssh"] = {"agent": "/run/agent"}
    connections = parse(stack, project_dir=project).connections
    proofs = {n: (c.agent, c.agent_socket, c.private_key.get_secret_value()) for n, c in connections.items()}
    assert proofs == {
        "billing-1": (True, None, ""),
        "billing-2": (False, None, PRIVATE_KEY),
        "billing-3": (True, "/run/agent", ""),
    }


def test_a_static_vm_has_no_connection_and_needs_no_key(
    stack: dict[str, Any], project: Path, problems: Callable[..., list[str]]
) -> None:
    stack["hosts"]["ssh"] = {"port": 8080}  # the application's, which a sidecar would take over
    vms = {"legacy-1": {"address": "10.0.0.7", "static": True, "weight": 3, "labels": {"version": "v0"}}}
    stack["workloads"]["billing"]["vms"] = vms
    settings = parse(stack, project_dir=project)
    assert settings.connections == {}
    assert settings.workloads["billing"].meshed_vms == {}
    assert settings.workloads["billing"].vms["legacy-1"].weight == 3
    del stack["workloads"]["billing"]["ports"], stack["workloads"]["billing"]["service"]
    assert problems(stack) == [
        "workloads.billing.vms.legacy-1.static: there is nothing to reach there: workloads.billing names no ports, "
        "name the application's ports in workloads.billing.ports"
    ]


def test_packages_have_their_digest_settled(stack: dict[str, Any], project: Path) -> None:
    url = "http://mirror/istio-sidecar.deb"
    own = {"file": "sidecar.rpm", "sha256": hashlib.sha256(b"package").hexdigest()}
    stack["hosts"]["sidecar"]["arm64"] = {"deb": {"url": "http://mirror/arm.deb", "sha256": "F" * 64}, "rpm": own}
    assert parse(stack, project_dir=project).packages == {
        "deb-amd64": SidecarPackage(url=url, file=None, sha256=DIGEST),
        "deb-arm64": SidecarPackage(url="http://mirror/arm.deb", file=None, sha256="f" * 64),
        "rpm-arm64": SidecarPackage(url=None, file="sidecar.rpm", sha256=own["sha256"]),
    }


@pytest.mark.parametrize(
    "text",
    [
        f"{DIGEST}\n",
        f"{DIGEST} *a.deb\n",
        f"{DIGEST}  ./a.deb",
        f"# sums\n{'f' * 64}  b.deb\n{DIGEST.upper()}  a.deb\n",
    ],
)
def test_checksum_files(text: str, tmp_path: Path) -> None:
    (tmp_path / "sums").write_text(text)
    assert files.checksum(tmp_path, "sums", files.file_name("https://host/path/a.deb?x=1")) == DIGEST


def test_probe_is_dumped_as_kubernetes_writes_it(stack: dict[str, Any], project: Path) -> None:
    probe = {
        "httpGet": {"path": "/", "port": 8080, "scheme": "HTTPS", "httpHeaders": [{"name": "Host", "value": "x"}]},
        "failureThreshold": 3,
    }
    stack["workloads"]["billing"]["probe"] = copy.deepcopy(probe)
    parsed = parse(stack, project_dir=project).workloads["billing"].probe
    assert parsed is not None
    assert parsed.model_dump(by_alias=True, exclude_none=True) == probe


def test_service_host(stack: dict[str, Any], project: Path) -> None:
    parsed = parse(stack, project_dir=project).workloads["billing"]
    assert service_host("billing", parsed) == "billing.vm-apps.svc.cluster.local"
    stack["workloads"]["billing"]["service"]["host"] = "bills.vm-apps.svc.cluster.local"
    parsed = parse(stack, project_dir=project).workloads["billing"]
    assert service_host("billing", parsed) == "bills.vm-apps.svc.cluster.local"


def test_settings_are_frozen(stack: dict[str, Any], project: Path) -> None:
    settings = parse(stack, project_dir=project)
    with pytest.raises(ValidationError, match="frozen"):
        settings.cluster.name = "other"  # type: ignore[misc]  # the point of the test


def test_repositories_need_no_folder(tmp_path: Path) -> None:
    for place in (RELEASE_CHARTS, "oci://ghcr.io/istio/release/charts"):
        files.charts(tmp_path, place)


HOST = "10.0.0.1"


@pytest.mark.parametrize(
    ("text", "port", "key"),
    [
        (f"{HOST} {HOST_KEY}", 22, HOST_KEY),
        (f"# a comment\n\nname,{HOST} {HOST_KEY} root@vm", 22, HOST_KEY),
        (f"{HOST} {RSA_KEY}\n{HOST} {ECDSA_KEY}\n{HOST} {HOST_KEY}", 22, HOST_KEY),
        (f"{HOST} {RSA_KEY}\n{HOST} {ECDSA_KEY}", 22, ECDSA_KEY),
        (f"{hashed(HOST)} {HOST_KEY}", 22, HOST_KEY),
        (f"{hashed(f'[{HOST}]:2222')} {HOST_KEY}", 2222, HOST_KEY),
        (f"[{HOST}]:2222 {HOST_KEY}", 2222, HOST_KEY),
        (f"10.0.0.* {HOST_KEY}", 22, HOST_KEY),
        (f"[10.0.0.?]:2222 {HOST_KEY}", 2222, HOST_KEY),
        (f"{HOST} {HOST_KEY}", 2222, "has no key of [10.0.0.1]:2222"),
        (f"[{HOST}]:2222 {HOST_KEY}", 22, "has no key of 10.0.0.1"),
        (f"*,!{HOST} {HOST_KEY}", 22, "has no key of 10.0.0.1"),
        (f"10.0.0.[1] {HOST_KEY}", 22, "has no key of 10.0.0.1"),
        (f"{hashed('10.0.0.2')} {HOST_KEY}", 22, "has no key of 10.0.0.1"),
        (f"|1|x|y {HOST_KEY}", 22, "has no key of 10.0.0.1"),
        (f"|1| {HOST_KEY}", 22, "has no key of 10.0.0.1"),
        (f"@cert-authority {HOST} {HOST_KEY}", 22, "has no key of 10.0.0.1"),
        (f"@revoked {HOST} {HOST_KEY}\n{HOST} {HOST_KEY}", 22, "revokes the only key of 10.0.0.1"),
        (f"@revoked * {HOST_KEY}\n{HOST} {HOST_KEY}\n{HOST} {ECDSA_KEY}", 22, ECDSA_KEY),
        (f"{HOST} ssh-ed25519", 22, "has no key of 10.0.0.1"),
        ("", 22, "has no key of 10.0.0.1"),
    ],
    ids=itertools.count(),  # the keys are new in every process
)
def test_known_hosts(text: str, port: int, key: str) -> None:
    entries = host_keys.read_known_hosts(text)
    if key.startswith("has") or key.startswith("revokes"):
        with pytest.raises(Refused) as refused:
            host_keys.find(entries, HOST, port)
        assert refused.value.what == key
    else:
        assert host_keys.find(entries, HOST, port) == key


def test_a_vms_packages_go_before_its_workloads_and_those_before_everybodys(
    stack: dict[str, Any], project: Path
) -> None:
    def packages(name: str) -> dict[str, Any]:
        return {"amd64": {"deb": {"url": f"http://mirror/{name}.deb", "sha256": DIGEST}}}

    stack["workloads"]["billing"]["sidecar"] = packages("workload")
    stack["workloads"]["billing"]["vms"]["billing-1"]["sidecar"] = packages("vm")
    stack["workloads"]["batch"] = {
        "namespace": "vm-batch",
        "serviceAccount": "batch",
        "vms": {"batch-1": {"address": "10.77.0.29", "hostKey": HOST_KEY}},
    }
    settings = parse(stack, project_dir=project)
    urls = {vm: settings.packages_of(vm)["deb-amd64"].url for vm in ("billing-1", "billing-2", "batch-1")}
    assert urls["billing-1"] == "http://mirror/vm.deb"
    assert urls["billing-2"] == "http://mirror/workload.deb"
    assert settings.packages_of("batch-1") == settings.packages


@pytest.mark.parametrize("share", [1, 12, "1%", "25%", "100%"])
def test_a_wave_is_a_number_or_a_share(stack: dict[str, Any], project: Path, share: int | str) -> None:
    stack["hosts"]["rollout"] = {"maxUnavailable": share}
    settings = parse(stack, project_dir=project)
    assert settings.hosts.rollout.max_unavailable == share
    assert settings.workloads["billing"].rollout is None
