"""A project folder with every file that a stack can point to, and a stack that is right, for tests to spoil."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from settings_samples import (
    DAMAGED_OPENSSH,
    DIGEST,
    ENCRYPTED_OPENSSH,
    ENCRYPTED_PEM,
    HOST_KEY,
    PEM_KEY,
    PRIVATE_KEY,
    RSA_KEY,
    hashed,
)

from settings import SettingsError, parse

KUBECONFIG = "apiVersion: v1\nkind: Config\nclusters: []\ncontexts: [{name: admin}, {name: ci}]\n"


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "kubeconfig").write_text(KUBECONFIG)
    for chart in ("base", "istiod", "gateway"):
        (folder / "charts" / chart).mkdir(parents=True)
        (folder / "charts" / chart / "Chart.yaml").touch()
    (folder / "few/base").mkdir(parents=True)
    (folder / "few/base/Chart.yaml").touch()
    for name, mode, text in (
        ("id", 0o600, PRIVATE_KEY),
        ("id_pem", 0o400, PEM_KEY),
        ("id_open", 0o644, PRIVATE_KEY),
        ("id_encrypted", 0o600, ENCRYPTED_OPENSSH),
        ("id_encrypted_pem", 0o600, ENCRYPTED_PEM),
        ("id_damaged", 0o600, DAMAGED_OPENSSH),
        ("id_public", 0o600, HOST_KEY),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
    (folder / "known_hosts").write_text(f"10.0.0.1,other {HOST_KEY}\n{hashed('[10.0.0.2]:2222')} {HOST_KEY}\n")
    (folder / "known_rsa").write_text(f"10.0.0.1 {RSA_KEY}\n")
    (folder / "sums").write_text(f"{DIGEST}  istio-sidecar.deb\n{'f' * 64}  other.deb\n")
    (folder / "sums_twice").write_text(f"{DIGEST}  istio-sidecar.deb\n{'f' * 64} *istio-sidecar.deb\n")
    (folder / "sidecar.rpm").write_bytes(b"package")
    for name, text in (
        ("values_a", "env: {A: a}"),
        ("values_b", "env: {A: b, B: on}"),
        ("values_empty", "# nothing yet"),
        ("values_list", "[a]"),
        ("values_broken", "a: ["),
        ("values_number", "env: {A: a, B: [1, {8080: b}]}"),
        ("values_date", "env: {A: !!timestamp 2026-11-21}"),
        ("values_reserved", "global: {hub: x}\nmeshConfig: {defaultConfig: {proxyMetadata: {0A: x}}}"),
    ):
        (folder / name).write_text(text)
    (folder / "binary").write_bytes(b"\xff\xfe\x00")
    return folder


@pytest.fixture
def stack() -> dict[str, Any]:
    return {
        "cluster": {"name": "cluster1", "network": "net1", "kubeconfig": "kubeconfig", "context": "admin"},
        "istio": {"version": "1.31.1", "charts": "charts", "values": {"meshConfig": {"accessLogFile": "/dev/stdout"}}},
        "eastWestGateway": {"service": "LoadBalancer", "values": {"imagePullPolicy": "IfNotPresent"}},
        "hosts": {
            "sidecar": {"amd64": {"deb": {"url": "http://mirror/istio-sidecar.deb", "sha256": "sums"}}},
            "ssh": {"user": "deploy", "privateKeyFile": "id", "knownHostsFile": "known_hosts"},
        },
        "workloads": {
            "billing": {
                "namespace": "vm-apps",
                "serviceAccount": "billing",
                "labels": {"app": "billing"},
                "annotations": {"proxy.istio.io/config": "concurrency: 1"},
                "ports": {"http": 8080},
                "probe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 2},
                "service": {"ports": {"http": 80}},
                "vms": {
                    "billing-1": {"address": "10.0.0.1"},
                    "billing-2": {"address": "10.0.0.2", "ssh": {"port": 2222}, "labels": {"version": "v2"}},
                    "billing-3": {"address": "10.0.0.3", "hostKey": f"{HOST_KEY} root@billing-3"},
                },
            }
        },
    }


@pytest.fixture
def problems(project: Path) -> Callable[..., list[str]]:
    """Return what is wrong with a stack, a line each."""

    def told(stack: dict[str, Any], **options: Any) -> list[str]:
        try:
            parse(stack, project_dir=project, **options)
        except SettingsError as error:
            title, *lines = str(error).splitlines()
            count = len(lines)
            assert title == f"the configuration has {count} problem{'' if count == 1 else 's'}:"
            assert len(error.problems) == count
            return [line.removeprefix("  ") for line in lines]
        return []

    return told
