"""Every preset is what the pinned chart takes, and what the API server would accept."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from stack import PROJECT, Kubectl, Stack

import arguments
from components.cni import DAEMON_SET, FOR_INJECTION, cni_values
from components.presets import PRESETS, istiod_preset, layered
from components.values import chart_reference, istiod_values, mesh_config
from settings import from_stack_file

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

REVISION = "preset"
OWN: dict[str, Any] = {
    "hub": "lab.local/istio",
    "tag": "dev",
    "mesh_id": "mesh1",
    "trust_domain": "cluster.local",
    "cluster": "cluster2",
    "network": "net2",
}
ELSEWHERE = {"global": {"remotePilotAddress": "10.77.0.99"}}

Objects = list[dict[str, Any]]
Rendered = tuple[dict[str, Any], Objects]


def rendered(chart: str, values: dict[str, Any], folder: Path, environment: dict[str, str]) -> Objects:
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    place = chart_reference(".lab/charts", chart, "")["chart"]
    done = subprocess.run(
        ["helm", "template", chart, place, "-n", "istio-system", "-f", str(folder / "values.yaml")],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def istiod(
    preset: str, folder: Path, environment: dict[str, str], revision: str = ""
) -> tuple[dict[str, Any], Objects]:
    over = ELSEWHERE if preset == "remote" else {}
    layers = layered(istiod_preset(preset, cluster=OWN["cluster"], network=OWN["network"]), over)
    values = istiod_values(extra=layers, revision=revision, **OWN)
    return values, rendered("istiod", values, folder, environment)


def of(objects: Objects, kind: str) -> Objects:
    return [found for found in objects if found["kind"] == kind]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_mesh_config_of_a_preset_is_the_charts(
    preset: str, lab_environment: dict[str, str], tmp_path: Path
) -> None:
    values, objects = istiod(preset, tmp_path, lab_environment)
    made = next(found for found in of(objects, "ConfigMap") if found["metadata"]["name"] == "istio")
    assert mesh_config(values) == yaml.safe_load(made["data"]["mesh"])


@pytest.mark.parametrize("preset", PRESETS)
def test_the_api_server_takes_a_preset(
    preset: str, joined: Stack, kubectl: Kubectl, lab_environment: dict[str, str], tmp_path: Path
) -> None:
    # Of a revision, so that nothing of it is what the stack has made.
    _, objects = istiod(preset, tmp_path, lab_environment, REVISION)
    gateway = {"networkGateway": "net2", "revision": REVISION, **PRESETS[preset].gateway}
    objects += [
        {**found, "metadata": {**found["metadata"], "name": f"{REVISION}-{found['metadata']['name']}"}}
        for found in rendered("gateway", gateway, tmp_path, lab_environment)
    ]
    said = kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(objects)
    )
    assert said.count("(server dry run)") == len(objects)


def test_the_default_scales_and_minimal_does_not(lab_environment: dict[str, str], tmp_path: Path) -> None:
    assert of(istiod("default", tmp_path, lab_environment)[1], "HorizontalPodAutoscaler")
    small = istiod("minimal", tmp_path, lab_environment)[1]
    assert not of(small, "HorizontalPodAutoscaler")
    (deployment,) = of(small, "Deployment")
    assert deployment["spec"]["replicas"] == 1
    assert (
        deployment["spec"]["template"]["spec"]["containers"][0]["resources"] == PRESETS["minimal"].istiod["resources"]
    )
    gateway = rendered("gateway", dict(PRESETS["minimal"].gateway), tmp_path, lab_environment)
    assert not of(gateway, "HorizontalPodAutoscaler")


def test_remote_has_no_istiod_but_leads_to_the_one_elsewhere(lab_environment: dict[str, str], tmp_path: Path) -> None:
    _, objects = istiod("remote", tmp_path, lab_environment)
    assert not of(objects, "Deployment")
    (service,), (slice_,) = of(objects, "Service"), of(objects, "EndpointSlice")
    assert service["metadata"]["name"] == "istiod"
    assert slice_["endpoints"] == [{"addresses": ["10.77.0.99"]}]
    (webhook,) = of(objects, "MutatingWebhookConfiguration")
    assert {hook["clientConfig"]["service"]["path"] for hook in webhook["webhooks"]} == {
        "/inject/cluster/cluster2/net/net2"
    }


def test_the_lab_runs_its_preset(joined: Stack, kubectl: Kubectl) -> None:
    args = arguments.control_plane_args(from_stack_file(PROJECT / "Pulumi.dev.yaml"), lambda path: None)
    assert args.values == layered(PRESETS["lab"].istiod, {"meshConfig": {"accessLogFile": "/dev/stdout"}})
    container = "{.spec.template.spec.containers[0].env}"
    env = kubectl("-n", "istio-system", "get", "deploy", "istiod", "-o", f"jsonpath={container}")
    for name, value in PRESETS["lab"].istiod["env"].items():
        assert {"name": name, "value": value} in yaml.safe_load(env)


def test_a_stack_may_keep_values_in_files(stack: Stack, kubectl: Kubectl) -> None:
    """The first lies over the preset, the next over it, and the stack file's own values over both."""
    files = {"a": {"env": {"ONE": "a", "TWO": "a", "THREE": "a"}}, "b": {"env": {"TWO": "b", "THREE": "b"}}}
    for name, values in files.items():
        stack.file.with_name(name).write_text(yaml.safe_dump(values))
    stack.config["istio"]["valuesFiles"] = [str(stack.file.with_name(name)) for name in files]
    stack.config["istio"]["values"]["env"] = {"THREE": "own", "PILOT_DISABLE_MX_ALPN": "1"}
    stack.up()
    container = "{.spec.template.spec.containers[0].env}"
    env = yaml.safe_load(kubectl("-n", "istio-system", "get", "deploy", "istiod", "-o", f"jsonpath={container}"))
    set_ = {item["name"]: item.get("value") for item in env}
    assert (set_["ONE"], set_["TWO"], set_["THREE"]) == ("a", "b", "own")
    assert (set_["PILOT_ENABLE_ALPN_FILTER"], set_["PILOT_DISABLE_MX_ALPN"]) == ("false", "1")


def test_the_api_server_takes_the_cni_plugin(
    joined: Stack, kubectl: Kubectl, lab_environment: dict[str, str], tmp_path: Path
) -> None:
    values = cni_values(extra={"logging": {"level": "debug"}}, hub="lab.local/istio", tag="dev")
    objects = rendered("cni", values, tmp_path, lab_environment)
    (daemons,) = of(objects, "DaemonSet")
    assert daemons["metadata"]["name"] == DAEMON_SET
    assert daemons["spec"]["template"]["spec"]["containers"][0]["image"] == "lab.local/istio/install-cni:dev"
    for found in objects:
        if found["kind"] not in ("ClusterRole", "ClusterRoleBinding"):
            assert found["metadata"].setdefault("namespace", "istio-system") == "istio-system"
    said = kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(objects))
    assert said.count("(server dry run)") == len(objects)
    injected = rendered("istiod", istiod_values(extra=FOR_INJECTION, revision="", **OWN), tmp_path, lab_environment)
    injector = next(one for one in of(injected, "ConfigMap") if one["metadata"]["name"] == "istio-sidecar-injector")
    assert yaml.safe_load(injector["data"]["values"])["pilot"]["cni"]["enabled"] is True
