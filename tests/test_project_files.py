"""The committed project and stack files fit the program that reads them."""

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

import arguments
from registration.ladder import DeclaredVm, Evidence, State, VmState
from registration.report import report
from settings import Settings, StackConfig, from_stack_file
from settings.yaml_text import load_yaml

ROOT = Path(__file__).parents[1]
PROJECT = load_yaml((ROOT / "Pulumi.yaml").read_text())
TYPES = {"object": dict, "array": list, "string": str}


def test_the_project_declares_every_key_of_the_models() -> None:
    assert list(PROJECT["config"]) == [field.alias for field in StackConfig.model_fields.values()]


@pytest.mark.parametrize(("key", "declared"), PROJECT["config"].items())
def test_declared_keys_agree_with_the_models(key: str, declared: dict[str, Any]) -> None:
    field = next(field for field in StackConfig.model_fields.values() if field.alias == key)
    assert declared["description"]
    assert ("default" in declared) != field.is_required(), "a key without a default is required by Pulumi"
    if "default" in declared:
        assert isinstance(declared["default"], TYPES[declared["type"]])
        assert not declared["default"], "an empty default means the models' own"
    # Pulumi checks a default against `secret: true` and refuses it, so no optional key can say so.
    assert "secret" not in declared


def test_the_project_says_how_it_is_run() -> None:
    assert PROJECT["name"] == "istio-vm-mesh"
    assert PROJECT["runtime"]["name"] == "python"
    assert "virtualenv" not in PROJECT["runtime"]["options"]
    assert PROJECT["requiredPulumiVersion"].startswith(">=3.")


def stack(name: str, folder: Path, known_hosts: str, *checksums: str, secret: str = "") -> Settings:
    """Return a committed stack's settings, with the files it points to in a folder of the test's."""
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    text = (ROOT / f"Pulumi.{name}.yaml").read_text()
    config = load_yaml(text)["config"]
    (folder / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text())
    (folder / f"Pulumi.{name}.yaml").write_text(text + secret)
    machines = [
        vm["address"]
        for w in config["istio-vm-mesh:workloads"].values()
        for vm in w["vms"].values()
        if "hostKey" not in vm
    ]
    (folder / known_hosts).parent.mkdir(parents=True, exist_ok=True)
    (folder / known_hosts).write_text("".join(f"{address} {public}\n" for address in machines))
    for checksum in checksums:
        (folder / checksum).parent.mkdir(exist_ok=True)
        (folder / checksum).write_text(f"{'0' * 64}  {Path(checksum).stem}\n")
    private = config["istio-vm-mesh:hosts"]["ssh"].get("privateKeyFile")
    if private is not None:
        (folder / private).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
        (folder / private).chmod(0o600)
    return from_stack_file(folder / f"Pulumi.{name}.yaml")


def test_the_labs_stack(tmp_path: Path) -> None:
    for chart in ("base", "istiod", "gateway"):
        (tmp_path / ".lab/charts" / chart).mkdir(parents=True)
        (tmp_path / ".lab/charts" / chart / "Chart.yaml").touch()
    (tmp_path / ".lab/kubeconfig").write_text("{apiVersion: v1, kind: Config, clusters: [], contexts: []}")
    settings = stack("dev", tmp_path, ".lab/ssh/known_hosts", ".lab/istio-sidecar.deb.sha256")
    assert settings.istio.version == "1.31.1"
    assert {name: vm.address for name, vm in settings.workloads["billing"].vms.items()} == {
        "billing-1": "10.77.0.21",
        "billing-2": "10.77.0.22",
    }
    # The lab's proxy is Envoy's core build: everything that needs Istio's own extensions must be off.
    values = arguments.control_plane_args(settings, lambda path: None).values
    assert values["telemetry"] == {"enabled": False}
    assert values["env"] == {
        "PILOT_ENABLE_METADATA_EXCHANGE": "false",
        "PILOT_ENABLE_ALPN_FILTER": "false",
        "PILOT_DISABLE_MX_ALPN": "true",
    }
    assert values["meshConfig"] == {
        "accessLogFile": "/dev/stdout",
        "defaultConfig": {"proxyStatsMatcher": {"inclusionPrefixes": ["cluster.inbound"]}},
    }


def test_the_example(tmp_path: Path) -> None:
    checksums = [f"checksums/istio-sidecar{suffix}.deb.sha256" for suffix in ("", "-arm64")]
    for path, content in (
        ("packages/istio-sidecar.rpm", "rpm"),
        ("checksums/istio-sidecar.rpm.sha256", f"{hashlib.sha256(b'rpm').hexdigest()}  istio-sidecar.rpm"),
    ):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_text(content)
    secret = "  istio-vm-mesh:sshPrivateKey: {secure: v1:abc}\n"
    settings = stack("example", tmp_path, "known_hosts", *checksums, secret=secret)
    assert set(settings.packages) == {"deb-amd64", "deb-arm64", "rpm-amd64"}
    assert settings.connections["billing-2"].port == 2222
    assert settings.connections["reports-1"].user == "deploy"
    assert settings.workloads["billing"].vms["legacy-1"].static
    assert [len(traffic.matches) for traffic in settings.traffic.values()] == [2]


def test_the_examples_comments_are_the_defaults() -> None:
    lines = (ROOT / "Pulumi.example.yaml").read_text().splitlines()
    said = {
        key.strip(): value.split("  #")[0].strip()
        for line in lines
        if line.strip().startswith("# ") and ":" in line and line.startswith("    ")
        for key, _, value in [line.strip().removeprefix("# ").partition(": ")]
    }
    istio = StackConfig.model_fields["istio"].annotation
    fields = {field.alias: field.default for field in istio.model_fields.values()}
    for key in ("charts", "hub", "revision", "trustDomain"):
        assert said[key].strip('"') == fields[key]


def test_the_outputs_reference_has_every_state_of_the_ladder() -> None:
    text = (ROOT / "docs/outputs.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| [^|]+ \|$", text, re.MULTILINE)
    assert rows == [str(state) for state in State]


def test_the_outputs_reference_has_every_key_of_a_vms_report() -> None:
    text = (ROOT / "docs/outputs.md").read_text()
    vm = DeclaredVm(name="a", namespace="n", workload="w", address="10.0.0.1")
    certificate = {"serial": "1", "notAfter": "2030-01-01T00:00:00Z", "spiffe": "spiffe://x"}
    static = DeclaredVm(name="b", namespace="n", workload="w", address="10.0.0.2", static_port=80)
    evidence = {"a": Evidence(confirmed={"certificate": certificate})}
    vms = report([vm, static], evidence, {name: VmState(state=State.HEALTHY) for name in ("a", "b")})["vms"]
    told = vms["b"] | vms["a"]
    section = text.split("## `registration.vms.<name>`")[1].split("##")[0]
    keys = [key for cell in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for key in re.findall(r"`(\w+)`", cell)]
    assert sorted(keys) == sorted(told)
    assert all(f"`{key}`" in section for key in told["certificate"])
