"""An Istio that somebody else has installed: what is refused of it, and what is set in it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_cluster import FakeCluster
from recording import Run, run

from components.existing import (
    SWITCHES,
    WAS,
    ExistingControlPlane,
    ExistingControlPlaneArgs,
    Facts,
    FoundIstio,
    Wanted,
    judge,
    switch_back,
    switch_on,
)
from components.kubectl import ClusterAccess

REGISTRATION, HEALTH = SWITCHES
WANTED = Wanted(cluster="c1", network="net1")


def facts(
    env: dict[str, Any] | None = None,
    mesh: dict[str, Any] | None = None,
    values: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    **changes: Any,
) -> Facts:
    pairs = {"CLUSTER_ID": "c1", **(env or {})}
    listed = [{"name": k, "valueFrom": {}} if v is None else {"name": k, "value": v} for k, v in pairs.items()]
    container = {"name": "discovery", "env": listed}
    given: dict[str, Any] = {
        "version": "1.31.1",
        "kinds": frozenset({"workloadgroups", "workloadentries"}),
        "namespace": {"metadata": {"labels": labels or {}}},
        "istiod": {
            "metadata": {"annotations": annotations or {}},
            "spec": {"template": {"spec": {"containers": [{"name": "other"}, container]}}},
            "status": {"readyReplicas": 1},
        },
        "mesh": {"data": {"mesh": yaml.safe_dump(mesh or {})}},
        "injector": {"data": {"values": json.dumps(values or {})}},
    }
    return Facts(**{**given, **changes})


def test_one_that_fits_is_taken_as_it_is() -> None:
    mesh = {"trustDomain": "td", "defaultConfig": {"meshId": "m", "discoveryAddress": "istiod.istio-system.svc:15012"}}
    found = judge(WANTED, facts(mesh=mesh, labels={"topology.istio.io/network": "net1"}))
    assert found == FoundIstio(version="1.31.1", mesh_id="m", trust_domain="td", mesh_config=mesh)


def test_a_mesh_without_an_id_has_its_trust_domains() -> None:
    found = judge(WANTED, facts())
    assert isinstance(found, FoundIstio)
    assert (found.mesh_id, found.trust_domain) == ("cluster.local", "cluster.local")


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (
            facts(istiod=None, revisions=("istiod-a", "istiod-b")),
            "istio.install: no Deployment istio-system/istiod, there is istiod-a, istiod-b, give its revision",
        ),
        (
            facts(istiod=None),
            "istio.install: no Deployment istio-system/istiod, install Istio, or give install: helm",
        ),
        (
            facts(injector=None),
            "istio.install: no ConfigMap istio-system/istio-sidecar-injector, by which istiod is configured, install "
            "it whole",
        ),
        (
            facts(kinds=frozenset({"workloadentries"})),
            "istio.install: the API server knows no workloadgroups of version v1, install Istio 1.22 or newer",
        ),
        (
            facts(version=""),
            "istio.install: istiod does not say its version (port 15014), let its Service have that port",
        ),
        (facts(env={"CLUSTER_ID": "c2"}), 'cluster.name: istiod\'s cluster is c2 (got "c1"), give c2'),
        (
            facts(labels={"topology.istio.io/network": "other"}),
            'cluster.network: the network of istio-system is other (got "net1"), give other',
        ),
        (
            facts(values={"global": {"network": "other"}}),
            'cluster.network: the network of the cluster\'s pods is other (got "net1"), give other',
        ),
        (
            facts(values={"global": {"caAddress": "cert-manager-istio-csr:443"}}),
            "istio.install: cert-manager-istio-csr:443 signs the mesh's certificates, and VMs enrol with istiod, let "
            "istiod sign",
        ),
        (
            facts(env={"ENABLE_CA_SERVER": "false"}),
            "istio.install: istiod does not sign the mesh's certificates, and VMs enrol with istiod, let istiod sign",
        ),
        (
            facts(env={"AUDIENCE": "vault"}),
            "istio.install: istiod takes tokens for vault, and VMs' are for istio-ca, unset AUDIENCE",
        ),
        (
            facts(mesh={"defaultConfig": {"discoveryAddress": "elsewhere.svc:15012"}}),
            "istio.install: proxies are led to elsewhere.svc:15012, and not to istiod.istio-system.svc, which VMs "
            "verify",
        ),
        (
            facts(env={REGISTRATION: "false"}),
            f"istio.install: istiod has {REGISTRATION}=false, without which VMs do not join, set it to true, or give "
            "istio.allowPatches: true",
        ),
        (
            facts(env={HEALTH: None}),
            f"istio.install: istiod's {HEALTH} comes from elsewhere (valueFrom), give it a value",
        ),
    ],
)
def test_why_one_is_refused(seen: Facts, reason: str) -> None:
    assert judge(WANTED, seen) == [reason]


def test_one_that_is_not_ready_is_refused() -> None:
    seen = facts()
    assert seen.istiod is not None
    found = judge(WANTED, facts(istiod={**seen.istiod, "status": {}}))
    assert isinstance(found, list)
    (reason,) = found
    assert reason.startswith("istio.install: istiod is not ready, see kubectl -n istio-system describe")


@pytest.mark.parametrize("ours", [True, False])
def test_somebody_elses_gateway_is_in_the_way(ours: bool) -> None:
    managed = [{"manager": "pulumi-kubernetes-1" if ours else "helm"}]
    seen = facts(gateway={"metadata": {"managedFields": managed}})
    found = judge(Wanted(cluster="c1", network="net1", makes_gateway=True), seen)
    assert isinstance(found, FoundIstio) is ours
    assert isinstance(judge(WANTED, seen), FoundIstio)


def test_switches_that_are_off_are_noted_with_what_they_were() -> None:
    may = Wanted(cluster="c1", network="net1", may_patch=True)
    first = judge(may, facts(env={REGISTRATION: "0", HEALTH: "true"}))
    assert isinstance(first, FoundIstio)
    assert (first.switches, first.off_again) == ({REGISTRATION: "0"}, ())
    note = {WAS: json.dumps({REGISTRATION: "0"})}
    later = judge(may, facts(env={REGISTRATION: "true", HEALTH: "true"}, annotations=note))
    assert isinstance(later, FoundIstio)
    assert (later.switches, later.off_again) == (first.switches, ())
    again = judge(may, facts(env={REGISTRATION: "false"}, annotations=note))
    assert isinstance(again, FoundIstio)
    assert (again.switches, again.off_again) == (first.switches, (REGISTRATION,))


ROOT = {"data": {"root-cert.pem": "ROOT"}}
CLUSTER = FakeCluster({"/api/v1/namespaces/istio-system/configmaps/istio-ca-root-cert": ROOT})


def existing(switches: dict[str, str], off_again: tuple[str, ...] = (), *, preview: bool = False) -> Run:
    def program() -> dict[str, Any]:
        found = FoundIstio(
            version="1.31.1",
            mesh_id="m",
            trust_domain="td",
            mesh_config={"a": "b"},
            switches=switches,
            off_again=off_again,
        )
        args = ExistingControlPlaneArgs(
            access=ClusterAccess(), get=CLUSTER.get, found=found, network="net1", revision="x"
        )
        made = ExistingControlPlane("istio", args)
        return {"host": made.istiod_host, "mesh": made.istiods["x"].mesh_config, "root": made.root_certificate}

    return run(program, preview=preview)


def test_only_a_label_is_set_in_one_that_fits() -> None:
    done = existing({})
    assert done.names == {"istio", "istio-network"}
    patch = done["istio-network"]
    assert patch.type == "kubernetes:core/v1:NamespacePatch"
    assert patch.inputs["metadata"] == {
        "name": "istio-system",
        "labels": {"topology.istio.io/network": "net1"},
        "annotations": {"istio-vm-mesh/adopted": "true"},
    }
    assert done.values == {"host": "istiod-x.istio-system.svc", "mesh": {"a": "b"}, "root": "ROOT\n"}


def test_switches_are_set_and_given_back() -> None:
    inputs = existing({HEALTH: "0"})["istio-switches"].inputs
    access = ClusterAccess()
    assert inputs["create"] == switch_on(access, "x", {HEALTH: "0"})
    assert inputs["delete"] == switch_back(access, "x", {HEALTH: "0"})
    assert f"--containers=discovery {HEALTH}=true" in inputs["create"]
    assert f"--containers=discovery {HEALTH}=0" in inputs["delete"]
    # The note goes first on, and last off: a run that dies in between is repeated by the next one.
    assert inputs["create"].index("annotate") < inputs["create"].index("set env")
    assert inputs["delete"].index("set env") < inputs["delete"].index("annotate")


@pytest.mark.parametrize("preview", [True, False])
def test_a_switch_that_is_off_again_is_set_once_more_but_not_in_a_preview(preview: bool) -> None:
    done = existing({HEALTH: "0"}, (HEALTH,), preview=preview)
    again = [invoke for invoke in done.monitor.invokes if "set env" in invoke["command"]]
    assert len(again) == (0 if preview else 1)


def switched_on(folder: Path, refusals: int) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the script that sets the switches, with a webhook that refuses so many objects first; and what it asked."""
    log = folder / "log"
    for name, text in {
        "kubectl": f'echo "$*" >>{log}\n'
        'case "$*" in *--dry-run=server*) cat >/dev/null ;; *) exit 0 ;; esac\n'
        f"[ $(grep -c dry-run {log}) -gt {refusals} ] || {{ echo 'connection refused' >&2; exit 1; }}",
        "sleep": ":",
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    script = switch_on(ClusterAccess(), "", {SWITCHES[0]: "false"})
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, timeout=20)
    return done, [line for line in log.read_text().splitlines() if "dry-run" in line]


def test_after_the_switches_istiods_webhook_answers_three_times_in_a_row(tmp_path: Path) -> None:
    done, asked = switched_on(tmp_path, refusals=2)
    assert (done.returncode, done.stderr, len(asked)) == (0, "", 5)


def test_a_webhook_that_answers_never_ends_the_step_with_what_it_said(tmp_path: Path) -> None:
    done, asked = switched_on(tmp_path, refusals=100)
    assert (done.returncode, done.stderr, len(asked)) == (1, "connection refused\n", 10)
