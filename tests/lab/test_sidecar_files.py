"""Our sidecar files against those of the real istioctl, for generated WorkloadGroups on meshes of three revisions."""

import json
import random
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from stack import Kubectl

from hosts.sidecar_files import SidecarFiles, sidecar_files

pytestmark = pytest.mark.lab

CASES = 60
GATEWAY = "10.77.0.200"
PLAIN = {"defaultConfig": {"discoveryAddress": "istiod.istio-system.svc:15012"}, "trustDomain": "cluster.local"}
RICH = {
    "defaultConfig": {
        "concurrency": 0,
        "drainDuration": "1m30.5s",
        "holdApplicationUntilProxyStarts": False,
        "interceptionMode": "REDIRECT",
        "meshId": "mesh-1",
        "proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "false", "B10": "ten", "B9": "nine", "SPACED": "a b"},
        "tracing": {"sampling": 12.5, "zipkin": {"address": "zipkin:9411"}, "maxPathTagLength": 256},
    },
    "trustDomain": "example.org",
}
MESHES = {
    "": PLAIN,
    "canary": RICH,
    "default": PLAIN,
    "1-31-1": {"defaultConfig": {"proxyMetadata": {"ONE": "1"}, "statusPort": 15020}},
}
ODD = ["", "v1", "1.10", "1e3", "12e9999999", "0x1F", "0777", "1_000", "yes", "No", "null", "~", "2026-08-27", "1:30"]
PROBES: list[dict[str, Any]] = [
    {},
    {"httpGet": {"path": "/healthz", "port": 8080}},
    {
        "httpGet": {
            "port": 1,
            "scheme": "HTTPS",
            "host": "127.0.0.1",
            "httpHeaders": [{"name": "a", "value": "b: #c"}, {}],
        }
    },
    {"tcpSocket": {"port": 5432}, "periodSeconds": 0, "failureThreshold": 3},
    {"tcpSocket": {"host": "::1", "port": 5432}, "initialDelaySeconds": 20, "timeoutSeconds": 2},
    {"exec": {"command": ["sh", "-c", 'test -e /ready && echo "it\'s" ready: yes # not a comment', "", "- x"]}},
    {"exec": {"command": ["one\ntwo\n", " leading", "trailing ", "tab\there", "é ü 漢 😀", "word " * 40]}},
    {"grpc": {"port": 9000, "service": "ready"}, "successThreshold": 2},
]
ANNOTATIONS = [
    "concurrency: 2\n",
    "concurrency: 0\nstatusPort: 15021\n",
    "status_port: 16020\ndrain_duration: 1h0.25s\ntermination_drain_duration: 0s\n",
    "holdApplicationUntilProxyStarts: true\nproxyStatsMatcher:\n  inclusionRegexps: ['.*', \"a b\"]\n",
    "image: {imageType: distroless}\nunknownField: 1\n",
    "tracing:\n  sampling: 0.01\n  customTags: {env: {literal: {value: prod}}, x: {header: {name: h}}}\n",
    "proxyHeaders: {server: {disabled: true}, requestId: {}, metadataExchangeHeaders: {mode: IN_MESH}}\n",
    "extraStatTags: []\ngatewayTopology: {numTrustedProxies: 2, forwardClientCertDetails: APPEND_FORWARD}\n",
    "interceptionMode: TPROXY\ncontrolPlaneAuthPolicy: MUTUAL_TLS\nserviceCluster: ''\n",
    "{}",
]
METADATA_ANNOTATIONS = [
    "proxyMetadata: {A: '1', SPACED: \"it's\"}\n",
    "proxyMetadata:\n  LONG: " + "many words " * 20 + "\n  B11: '<&>'\n",
    "discoveryAddress: istiod.elsewhere.svc:31012\nproxyMetadata: {SAFE: 'www.w/w'}\n",
]


@dataclass(frozen=True)
class Mesh:
    """Scratch namespaces that look to istioctl like a mesh with several revisions."""

    istio: str
    apps: str
    istioctl: tuple[str, ...]
    environment: Mapping[str, str]
    kubectl: Kubectl

    def root_certificate(self) -> str:
        found = json.loads(self.kubectl("-n", self.apps, "get", "configmap", "istio-ca-root-cert", "-o", "json"))
        return str(found["data"]["root-cert.pem"])

    def configure(self, folder: Path, group: dict[str, Any], *options: str) -> dict[str, str]:
        (folder / "group.yaml").write_text(json.dumps(group, ensure_ascii=False))
        argv = [*self.istioctl, "x", "workload", "entry", "configure", "-f", str(folder / "group.yaml")]
        done = subprocess.run(
            [*argv, "-o", str(folder / "out"), "-i", self.istio, *options],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return {path.name: path.read_text() for path in (folder / "out").iterdir()}


@pytest.fixture(scope="module")
def mesh(kubectl: Kubectl, lab_environment: dict[str, str]) -> Iterator[Mesh]:
    suffix = uuid.uuid4().hex[:8]
    istio, apps = f"oracle-{suffix}", f"oracle-apps-{suffix}"
    objects: list[dict[str, Any]] = [{"kind": "Namespace", "metadata": {"name": name}} for name in (istio, apps)]
    for account in ("billing", "payments"):
        objects.append({"kind": "ServiceAccount", "metadata": {"name": account, "namespace": apps}})
    for revision, config in MESHES.items():
        name = f"-{revision}" if revision not in ("", "default") else ""
        values = json.dumps({"global": {"multiCluster": {"clusterName": "lab"}}})
        for kind, data in (("istio", {"mesh": yaml.safe_dump(config)}), ("istio-sidecar-injector", {"values": values})):
            metadata = {"name": kind + name, "namespace": istio}
            objects.append({"kind": "ConfigMap", "metadata": metadata, "data": data})
    root = {
        "metadata": {"name": "istio-ca-root-cert", "namespace": apps},
        "data": {"root-cert.pem": "-----ROOT-----\n"},
    }
    objects.append({"kind": "ConfigMap", **root})
    items = [{"apiVersion": "v1", **item} for item in objects]
    kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        "-",
        stdin=json.dumps({"kind": "List", "apiVersion": "v1", "items": items}),
    )
    yield Mesh(istio, apps, ("istioctl", *kubectl.argv[1:]), lab_environment, kubectl)
    kubectl("delete", "namespace", istio, apps, "--wait=false")


def generated(number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a WorkloadGroup and the options of the run, the same for each number in every run."""
    pick = random.Random(number)
    revision = pick.choice(list(MESHES))
    annotations = ANNOTATIONS + (METADATA_ANNOTATIONS if "proxyMetadata" in MESHES[revision]["defaultConfig"] else [])

    def labels() -> dict[str, str]:
        keys = ["app", "version", "app.kubernetes.io/name", "app.kubernetes.io/version", "team", "a-1", "a-10", "a-9"]
        keys += ["service.istio.io/canonical-name", "service.istio.io/canonical-revision"]
        return {key: pick.choice(ODD) for key in pick.sample(keys, pick.randint(0, 5))}

    def metadata(**more: Any) -> dict[str, Any]:
        chosen = {"proxy.istio.io/config": pick.choice(annotations), "other": "x"} if pick.random() < 0.6 else {}
        return {**({"annotations": chosen} if chosen else {}), **more}

    ports = {
        name: pick.randint(1, 65535)
        for name in pick.sample(["http", "grpc-a", "tcp-10", "tcp-9", "x"], pick.randint(0, 4))
    }
    template = {"ports": ports, "labels": labels(), "network": pick.choice(["", "net1", "1e3"]), "weight": 5}
    template["serviceAccount"] = pick.choice(["billing", "payments", "default", ""])
    spec: dict[str, Any] = {"template": {key: value for key, value in template.items() if value or pick.random() < 0.5}}
    if pick.random() < 0.9:
        spec["metadata"] = metadata(labels=labels())
    if pick.random() < 0.8:
        spec["probe"] = pick.choice(PROBES)
    group = {"metadata": metadata(name=pick.choice(["billing", "b-1", "0123"])), "spec": spec}
    address = pick.choice([{}, {"service_ip": "10.77.0.21"}, {"service_ip": "fd00::21"}, {"external_ip": "192.0.2.7"}])
    return group, {
        "revision": revision,
        "cluster_id": pick.choice(["lab", "Kubernetes", "east 1"]),
        "capture_dns": pick.random() < 0.7,
        "auto_register": pick.random() < 0.7,
        **address,
    }


def flags(options: Mapping[str, Any]) -> list[str]:
    result = [f"--ingressIP={GATEWAY}", f"--clusterID={options['cluster_id']}"]
    result += [f"--capture-dns={str(options['capture_dns']).lower()}"]
    result += [f"--autoregister={str(options['auto_register']).lower()}"]
    result += [f"--revision={options['revision']}"] if options["revision"] else []
    result += [f"--internalIP={options['service_ip']}"] if "service_ip" in options else []
    return result + ([f"--externalIP={options['external_ip']}"] if "external_ip" in options else [])


def in_any_order(cluster_env: str) -> str:
    """Return cluster.env with the inbound ports sorted: istioctl's order is random."""
    lines = cluster_env.splitlines()
    for number, line in enumerate(lines):
        name, _, value = line.partition("=")
        if name == "ISTIO_INBOUND_PORTS":
            lines[number] = f"{name}={sorted(value.strip(chr(39)).split(','))}"
    return "\n".join(lines)


def test_the_generator_covers_what_it_should() -> None:
    cases = [generated(number) for number in range(CASES)]
    assert {options["revision"] for _, options in cases} == set(MESHES)
    assert {str(group["spec"].get("probe")) for group, _ in cases} >= {str(probe) for probe in PROBES}
    both = [
        group
        for group, _ in cases
        if "annotations" in group["metadata"] and "annotations" in group["spec"].get("metadata", {})
    ]
    assert len(both) >= 10
    assert any(len(group["spec"]["template"].get("ports", {})) > 2 for group, _ in cases)


@pytest.mark.parametrize("number", range(CASES))
def test_files_equal_istioctls(mesh: Mesh, tmp_path: Path, number: int) -> None:
    group, options = generated(number)
    group |= {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadGroup"}
    group["metadata"]["namespace"] = mesh.apps
    before = mesh.root_certificate()
    theirs = mesh.configure(tmp_path, group, *flags(options))
    ours: SidecarFiles = sidecar_files(
        group=group,
        mesh_config=MESHES[options["revision"]],
        root_certificate=theirs["root-cert.pem"],
        istiod_address=GATEWAY,
        istio_namespace=mesh.istio,
        **options,
    )
    assert ours.mesh_yaml == theirs["mesh.yaml"]
    assert in_any_order(ours.cluster_env) == in_any_order(theirs["cluster.env"])
    assert ours.hosts == theirs["hosts"]
    # istiod may write its own root certificate into the scratch namespace in between.
    assert ours.root_certificate in (before, mesh.root_certificate())
