"""An Istio that somebody else has installed by plain Helm takes the stack's VMs, and is afterwards as it was."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from stack import PROJECT, Kubectl, Stack, changes

from components.presets import PRESETS
from components.values import deep_merge
from lab.runtime import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(420)]

HEALTH_CHECKS = "PILOT_ENABLE_WORKLOAD_ENTRY_HEALTHCHECKS"
KINDS = (
    "deployments,services,configmaps,serviceaccounts,roles,rolebindings,secrets,"
    "gateways.networking.istio.io,virtualservices,peerauthentications"
)
CLUSTER_KINDS = "clusterroles,clusterrolebindings,validatingwebhookconfigurations,mutatingwebhookconfigurations,ns"
LEADER = "control-plane.alpha.kubernetes.io/leader"
"""Annotation in which istiods count who of them leads."""
BY_SERVER = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp")
INSTALLED: dict[str, Any] = {
    "global": {
        "hub": "lab.local/istio",
        "tag": "dev",
        "meshID": "their-mesh",
        "multiCluster": {"clusterName": "cluster1"},
    },
    "meshConfig": {"accessLogFile": "/dev/stdout", "defaultConfig": {"drainDuration": "7s"}},
    "env": {HEALTH_CHECKS: "0"},
    "base": {"validationFailurePolicy": "Fail"},
}


def helm(environment: dict[str, str], *args: str) -> None:
    command = ["helm", "--kubeconfig", ".lab/kubeconfig", "-n", "istio-system", *args]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def theirs(stack: Stack, kubectl: Kubectl, lab_environment: dict[str, str], tmp_path: Path) -> Iterator[Stack]:
    """The stack, with nothing of its own in the cluster, where somebody has installed Istio."""
    destroy(stack)
    values = deep_merge(dict(PRESETS["lab"].istiod), INSTALLED)
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    kubectl("create", "namespace", "istio-system")
    helm(lab_environment, "install", "istio-base", ".lab/charts/base", "--set", "base.validationFailurePolicy=Fail")
    helm(lab_environment, "install", "istiod", ".lab/charts/istiod", "-f", str(tmp_path / "values.yaml"), "--wait")
    stack.config["istio"] = {"install": "existing", "charts": ".lab/charts"}
    stack.config["eastWestGateway"] = {"values": dict(PRESETS["lab"].gateway)}
    yield stack
    destroy(stack)
    helm(lab_environment, "uninstall", "istiod", "--wait")
    helm(lab_environment, "uninstall", "istio-base", "--wait")
    kubectl("delete", "namespace", "istio-system", "--wait=true")


def destroy(stack: Stack) -> None:
    done = stack.run("destroy")
    assert done.returncode == 0, done.stdout + done.stderr


def everything(kubectl: Kubectl) -> dict[str, Any]:
    """Istio's objects, without what the API server and controllers count."""
    found = {}
    for scope in (("-n", "istio-system", "get", KINDS), ("get", CLUSTER_KINDS)):
        for obj in json.loads(kubectl(*scope, "-o", "json"))["items"]:
            name = obj["metadata"]["name"]
            if "istio" not in name or LEADER in obj["metadata"].get("annotations", {}):
                continue
            metadata = {key: value for key, value in obj["metadata"].items() if key not in BY_SERVER}
            metadata.get("annotations", {}).pop("deployment.kubernetes.io/revision", None)
            metadata = {key: value for key, value in metadata.items() if value != {}}
            rest = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
            found[f"{obj['kind']}/{name}"] = {"metadata": metadata, **rest}
    return found


def env(kubectl: Kubectl) -> dict[str, str]:
    istiod = json.loads(kubectl("-n", "istio-system", "get", "deployment", "istiod", "-o", "json"))
    (container,) = istiod["spec"]["template"]["spec"]["containers"]
    return {item["name"]: item.get("value", "") for item in container["env"]}


def test_vms_join_it_and_it_stays_as_it_was(theirs: Stack, lab: Lab, kubectl: Kubectl) -> None:
    before = everything(kubectl)
    assert "Deployment/istiod" in before
    refused = theirs.run("preview")
    told = refused.stdout + refused.stderr
    assert refused.returncode != 0
    assert (
        f"istio.install: istiod has {HEALTH_CHECKS}=0, without which VMs do not join, set it to true, or give" in told
    )
    assert "Traceback" not in told

    theirs.config["istio"]["allowPatches"] = True
    plan = changes(theirs.preview())
    assert plan["istio-network"] == plan["istio-switches"] == "create"
    assert not {"istio-namespace", "istio-base", "istio-istiod"} & plan.keys()
    theirs.up()
    assert theirs.states() == {"billing-1": "healthy", "billing-2": "healthy"}
    assert changes(theirs.preview()) == {}
    mesh = theirs.outputs()["mesh"]
    assert (mesh["id"], mesh["trustDomain"], mesh["network"]) == ("their-mesh", "cluster.local", "net1")
    assert env(kubectl)[HEALTH_CHECKS] == "true"
    assert "drainDuration: 7s" in lab.vm_exec("billing-1", ["cat", "/etc/istio/config/mesh"]).stdout

    # Its owner installs it again: what the stack had switched on is off, and on again with the next run.
    kubectl("-n", "istio-system", "set", "env", "deployment/istiod", f"{HEALTH_CHECKS}=0")
    kubectl("-n", "istio-system", "rollout", "status", "deployment/istiod", "--timeout=90s")
    assert f"istiod has {HEALTH_CHECKS} off again" in theirs.up()
    assert env(kubectl)[HEALTH_CHECKS] == "true"

    destroy(theirs)
    after = everything(kubectl)
    assert {name for name in before | after if before.get(name) != after.get(name)} == set()


def test_an_istio_of_another_mesh_is_refused_with_every_reason(theirs: Stack, kubectl: Kubectl) -> None:
    kubectl("label", "namespace", "istio-system", "topology.istio.io/network=their-net")
    theirs.config["cluster"]["name"] = "other"
    theirs.config["istio"] |= {"version": "1.30.0", "trustDomain": "example.com", "meshId": "mesh1"}
    before = everything(kubectl)
    for verb in ("preview", "up"):
        done = theirs.run(verb)
        told = done.stdout + done.stderr
        assert done.returncode != 0
        assert "Traceback" not in told
        for reason in (
            'cluster.name: istiod\'s cluster is cluster1 (got "other"), give cluster1',
            'cluster.network: the network of istio-system is their-net (got "net1"), give their-net',
            'istio.version: istiod\'s version is 1.31.1 (got "1.30.0"), give 1.31.1',
            'istio.trustDomain: the mesh\'s trust domain is cluster.local (got "example.com"), give cluster.local',
            'istio.meshId: the mesh\'s is their-mesh (got "mesh1"), give their-mesh',
            f"istio.install: istiod has {HEALTH_CHECKS}=0, without which VMs do not join",
        ):
            assert reason in told
    assert everything(kubectl) == before
    theirs.config["istio"]["revision"] = "canary"
    done = theirs.run("preview")
    told = done.stdout + done.stderr
    assert "no Deployment istio-system/istiod-canary, there is istiod, give its revision" in told
