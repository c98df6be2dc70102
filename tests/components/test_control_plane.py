"""The control plane: its charts, their order, and the root of trust."""

import subprocess
from dataclasses import replace
from typing import Any

import pulumi
import pytest
from fake_cluster import FakeCluster
from recording import UNKNOWN, Run, public_text, run, secrets

from components import common
from components.ca import Ca, announcement
from components.control_plane import ControlPlane, ControlPlaneArgs, RevisionArgs, certificate_digest
from components.kubectl import ClusterAccess
from components.vm_namespace import VmNamespace, VmNamespaceArgs

ROOT = """-----BEGIN CERTIFICATE-----
MIIBYjCCAQigAwIBAgIUN7rUdxIrp7CWz1d4yqc0v4MZ1iEwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEcm9vdDAeFw0yNjAxMDEwMDAwMDBaFw0zNjAxMDEwMDAwMDBa
-----END CERTIFICATE-----"""


ROOT_PATH = "/api/v1/namespaces/istio-system/configmaps/istio-ca-root-cert"


def control_plane_run(*, preview: bool = False, root: str = "", **changes: Any) -> Run:
    cluster = FakeCluster()

    def program() -> dict[str, Any]:
        given: dict[str, Any] = {
            "access": ClusterAccess(),
            "get": cluster.get,
            "charts": "https://blob.istio.io/charts",
            "version": "1.31.1",
            "hub": "docker.io/istio",
            "tag": "1.31.1",
            "mesh_id": "mesh1",
            "trust_domain": "cluster.local",
            "cluster": "cluster1",
            "network": "net1",
        }
        made = ControlPlane("istio", ControlPlaneArgs(**{**given, **changes}))
        istiods = {
            revision: (istiod.host, istiod.version, istiod.mesh_config["defaultConfig"]["discoveryAddress"])
            for revision, istiod in made.istiods.items()
        }
        return {
            "host": made.istiod_host,
            "mesh": made.mesh_config,
            "root": made.root_certificate,
            "istiods": pulumi.Output.from_input(istiods),
        }

    cluster.answers = {ROOT_PATH: {"data": {"root-cert.pem": root}}} if root else {}
    return run(program, preview=preview)


def test_namespace_then_base_then_istiod() -> None:
    done = control_plane_run(root=ROOT)
    assert done.names == {"istio", "istio-residue", "istio-namespace", "istio-base", "istio-istiod"}
    assert done["istio"].type == "istiovm:index:ControlPlane"
    assert {done[name].parent_name for name in done.names - {"istio"}} == {"istio"}
    # First to come, so last to go.
    assert done["istio-namespace"].dependency_names == {"istio-residue"}
    assert done["istio-base"].dependency_names == {"istio-namespace"}
    assert done["istio-istiod"].dependency_names == {"istio-base"}
    assert done["istio-base"].type == "kubernetes:helm.sh/v3:Release"
    assert (done["istio-istiod"].type, done["istio-istiod"].remote) == ("kubernetes:helm.sh/v4:Chart", True)


def test_the_namespace_says_its_network() -> None:
    metadata = control_plane_run(root=ROOT)["istio-namespace"].inputs["metadata"]
    assert metadata == {"name": "istio-system", "labels": {"topology.istio.io/network": "net1"}}


def test_charts_come_from_the_repository_or_from_the_folder() -> None:
    for name, chart in (("istio-base", "base"), ("istio-istiod", "istiod")):
        inputs = control_plane_run(root=ROOT)[name].inputs
        assert (inputs["chart"], inputs["version"]) == (chart, "1.31.1")
        assert inputs["repositoryOpts"] == {"repo": "https://blob.istio.io/charts"}
        inputs = control_plane_run(root=ROOT, charts=".lab/charts")[name].inputs
        assert inputs["chart"] == f".lab/charts/{chart}"
        assert not {"version", "repositoryOpts"} & set(inputs)


def test_a_revision_names_istiod_everywhere() -> None:
    done = control_plane_run(root=ROOT, revision="canary")
    assert done["istio-istiod-canary"].inputs["name"] == "istiod-canary"
    assert done["istio-base"].inputs["values"]["defaultRevision"] == "canary"
    assert done.values["host"] == "istiod-canary.istio-system.svc"
    assert done.values["mesh"]["defaultConfig"]["discoveryAddress"] == "istiod-canary.istio-system.svc:15012"


CANARY = RevisionArgs(charts="oci://charts", version="1.32.0", hub="hub", tag="t", values={"meshConfig": {"a": "b"}})
DEFAULT = RevisionArgs(charts="https://blob.istio.io/charts", version="1.31.1", hub="docker.io/istio", tag="1.31.1")


def test_a_further_istiod_stands_beside_the_main_one() -> None:
    done = control_plane_run(root=ROOT, further={"canary": CANARY})
    assert done.names - control_plane_run(root=ROOT).names == {"istio-istiod-canary"}
    assert done["istio-base"].inputs["values"]["defaultRevision"] == "default"
    canary = done["istio-istiod-canary"].inputs
    assert (canary["name"], canary["chart"], canary["version"]) == ("istiod-canary", "oci://charts/istiod", "1.32.0")
    values = canary["values"]
    assert (values["revision"], values["global"]["tag"], values["meshConfig"]["a"]) == ("canary", "t", "b")
    assert values["global"]["meshID"] == "mesh1"
    assert done["istio-istiod-canary"].dependency_names == {"istio-base"}
    istiods = done.values["istiods"]
    assert istiods[""] == ("istiod.istio-system.svc", "1.31.1", "istiod.istio-system.svc:15012")
    assert istiods["canary"] == ("istiod-canary.istio-system.svc", "1.32.0", "istiod-canary.istio-system.svc:15012")


def test_a_canary_becomes_the_main_istiod_without_a_change_of_its_own() -> None:
    """So that it is not installed anew; the former main one may stay beside it, under the name `default`."""
    before = control_plane_run(root=ROOT, further={"canary": CANARY})
    after = control_plane_run(root=ROOT, revision="canary", **vars(CANARY), further={"default": DEFAULT})
    changed = {name for name in before.names | after.names if before[name].inputs != after[name].inputs}
    assert changed == {"istio-base"}
    assert after["istio-base"].inputs["values"]["defaultRevision"] == "canary"
    assert list(after.values["istiods"]) == ["canary", ""]


def test_the_root_certificate_is_known_once_it_is_there() -> None:
    assert control_plane_run(root=ROOT).values["root"] == f"{ROOT}\n"
    before = control_plane_run(preview=True)
    assert before.values["root"] == UNKNOWN


def test_a_root_certificate_that_istiod_does_not_make_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "WAIT_SECONDS", 0)
    with pytest.raises(pulumi.RunError) as caught:
        control_plane_run()
    assert str(caught.value) == "configmap istio-system/istio-ca-root-cert has no root-cert.pem after 0 s"


def test_values_whose_effect_on_vms_is_not_known_end_the_run_without_a_traceback() -> None:
    with pytest.raises(pulumi.RunError, match=r"^istio\.values\.global\.proxy\.tracer is not supported"):
        control_plane_run(values={"global": {"proxy": {"tracer": "zipkin"}}})


CA = Ca(certificate="CERT\n", chain="CHAIN\n", root=f"{ROOT}\n")


def test_the_authority_is_there_before_istiod_and_its_key_is_secret() -> None:
    done = control_plane_run(root=ROOT, ca=replace(CA, key=pulumi.Output.secret("THE KEY")))
    secret = done["istio-ca"]
    assert secret.type == "kubernetes:core/v1:Secret"
    assert secret.inputs["metadata"] == {"name": "cacerts", "namespace": "istio-system"}
    assert done["istio-base"].dependency_names == {"istio-namespace", "istio-ca"}
    assert "THE KEY" in [one["ca-key.pem"] for one in secrets(secret.inputs)]
    assert "THE KEY" not in "".join(public_text(one.inputs) for one in done.monitor.registered.values())
    assert done.values["root"] == f"{ROOT}\n"


def test_another_authority_restarts_istiod_and_the_root_is_known_in_the_first_preview() -> None:
    first, second = (
        control_plane_run(preview=True, ca=replace(CA, key=pulumi.Output.secret("k"), certificate=certificate))
        for certificate in ("A", "B")
    )
    annotations = [done["istio-istiod"].inputs["values"]["podAnnotations"] for done in (first, second)]
    assert annotations[0] != annotations[1]
    assert first.values["root"] == f"{ROOT}\n"


def test_a_secret_that_is_there_is_neither_made_nor_is_its_namespace() -> None:
    done = control_plane_run(root=ROOT, ca=CA, adopt_namespace=True)
    assert done.names == {"istio", "istio-residue", "istio-network", "istio-base", "istio-istiod"}
    assert done["istio-network"].type == "kubernetes:core/v1:NamespacePatch"
    assert done["istio-base"].dependency_names == {"istio-network"}


def test_the_plugin_comes_before_what_is_injected_for_it() -> None:
    done = control_plane_run(root=ROOT, cni={"logging": {"level": "debug"}})
    chart = done["istio-cni"]
    assert (chart.type, chart.dependency_names) == ("kubernetes:helm.sh/v4:Chart", {"istio-base"})
    assert chart.inputs["values"] == {
        "logging": {"level": "debug"},
        "global": {"hub": "docker.io/istio", "tag": "1.31.1"},
    }
    assert done["istio-istiod"].inputs["values"]["cni"] == {"enabled": True}
    assert "cni" not in control_plane_run(root=ROOT)["istio-istiod"].inputs["values"]


def test_another_root_is_announced() -> None:
    old, new = "-----BEGIN CERTIFICATE-----\nOLD\n-----END CERTIFICATE-----\n", f"{ROOT}\n"
    assert announcement("", new, new) == announcement(new, new, new) == announcement(f"{ROOT}\n\n", new, new) == ""
    assert announcement(old + new, new + old, new) == ""
    gentle, hard = announcement(old, new + old, old), announcement(old, new + old, new)
    assert gentle.endswith("what has a certificate of a root that both have stays connected meanwhile")
    assert "None of the roots that the mesh has now signed the new authority" in hard
    assert announcement(old, new, new) == hard
    assert {text.split(":")[0] for text in (gentle, hard)} == {"istio.caSecret"}


def test_certificate_digest_is_openssls(tmp_path: Any) -> None:
    made = tmp_path / "cert.pem"
    subprocess.run(
        f"openssl req -x509 -newkey ed25519 -nodes -subj /CN=x -keyout /dev/null -out {made}".split(),
        check=True,
        capture_output=True,
    )
    said = subprocess.run(
        ["openssl", "x509", "-in", made, "-noout", "-fingerprint", "-sha256"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    pem = made.read_text()
    assert certificate_digest(pem + ROOT) == said.split("=")[1].strip().replace(":", "").lower()


def test_a_vm_namespace_is_never_injected_and_has_its_accounts() -> None:
    def program() -> dict[str, Any]:
        VmNamespace("vm-apps", VmNamespaceArgs(service_accounts=["billing", "default"]))
        return {}

    done = run(program)
    # Kubernetes makes `default` itself.
    assert done.names == {"vm-apps", "vm-apps-namespace", "vm-apps-billing"}
    metadata = done["vm-apps-namespace"].inputs["metadata"]
    assert metadata == {"name": "vm-apps", "labels": {"istio-injection": "disabled"}}
    assert done["vm-apps-billing"].inputs["metadata"] == {"name": "billing", "namespace": "vm-apps"}
    assert done["vm-apps-billing"].dependency_names == {"vm-apps-namespace"}
