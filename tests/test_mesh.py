"""What the program finds of a mesh before it makes anything, from what kubectl prints."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest
from authorities import Made, make

import mesh
from components.ca import FILES
from components.kubectl import ClusterAccess
from settings.istio_models import CaSecret
from settings.models import Istio

ACCESS = ClusterAccess()
ROOT = make("Root")
OWN = make("Own", ROOT)
NETWORK = {"f:metadata": {"f:labels": {"f:topology.istio.io/network": {}}}}


class Stack:
    """As much of a stack as is looked at."""

    authority = None

    def __init__(self, ca: CaSecret | None) -> None:
        self.istio = Istio(version="1.31.1").model_copy(update={"ca_secret": ca})


KEPT: Any = Stack(CaSecret(existing="cacerts"))


def printed(own: Made = OWN, root: Made = ROOT, **changes: str | None) -> str:
    """What kubectl prints of the Secret."""
    parts = {"certificate": own.pem, "chain": own.pem, "root": root.pem, "key": "", **changes}
    lines = {
        FILES[name]: "there" if name == "key" else base64.b64encode(text.encode()).decode()
        for name, text in parts.items()
        if text is not None
    }
    return "".join(f"{name} {text}\n" for name, text in lines.items())


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def says(text: str) -> None:
        monkeypatch.setattr(mesh, "run", lambda command, otherwise=None: text)

    return says


def test_a_secret_that_somebody_keeps_is_read_without_its_key(answer: Callable[[str], None]) -> None:
    answer(printed())
    found = mesh.authority_of(KEPT, ACCESS)
    assert found is not None
    assert (found.certificate, found.root, found.key) == (OWN.pem, ROOT.pem, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", " is not there, make it before this stack, or give istio.caSecret the files"),
        (printed(key=None), " has no ca-key.pem, make it before this stack, or give istio.caSecret the files"),
        (printed(root=make("Other")), ": CN=Own is not signed by CN=Other, the root that signed it, or"),
        (printed(chain="nothing"), ": holds no certificate that can be read, PEM certificates (BEGIN CERTIFICATE)"),
    ],
)
def test_one_that_istiod_could_not_use_ends_the_run(answer: Callable[[str], None], text: str, told: str) -> None:
    answer(text)
    with pytest.raises(pulumi.RunError) as caught:
        mesh.authority_of(KEPT, ACCESS)
    assert str(caught.value).startswith(f"istio.caSecret.existing: Secret istio-system/cacerts{told}")


def test_one_that_runs_out_soon_is_warned_of(answer: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    warned: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", warned.append)
    answer(printed())
    mesh.authority_of(KEPT, ACCESS)
    assert warned == []
    old = make("Old", days=5.5)
    answer(printed(own=old, root=old))
    mesh.authority_of(KEPT, ACCESS)
    assert [text.split(" and ")[0].split(", ")[1] for text in warned] == ["in 5 days,"]


@pytest.mark.parametrize(
    ("managed", "annotations", "ours"),
    [
        ([{"manager": "pulumi-kubernetes-1", "fieldsV1": NETWORK}], {}, True),
        ([{"manager": "pulumi-kubernetes-1", "fieldsV1": NETWORK}], {"istio-vm-mesh/adopted": "true"}, False),
        ([{"manager": "kubectl-label", "fieldsV1": NETWORK}], {}, False),
        ([{"manager": "pulumi-kubernetes-1", "fieldsV1": {}}], {}, False),
        ([], {}, False),
    ],
)
def test_a_namespace_that_the_stack_has_made_stays_its_own(
    answer: Callable[[str], None], managed: list[Any], annotations: dict[str, str], ours: bool
) -> None:
    """Taken for somebody else's, it would be deleted with all that is in it."""
    answer(json.dumps({"metadata": {"managedFields": managed, "annotations": annotations}}))
    assert mesh.has_namespace(KEPT, ACCESS) is not ours


def test_without_a_kept_secret_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "run", None)
    nothing: Any = Stack(None)
    assert mesh.authority_of(nothing, ACCESS) is None
    assert mesh.has_namespace(nothing, ACCESS) is False


def test_facts_of_an_istio(monkeypatch: pytest.MonkeyPatch) -> None:
    objects = [("Namespace", "istio-system"), ("Deployment", "istiod-x"), ("ConfigMap", "istio-x")]
    listed = {"items": [{"kind": kind, "metadata": {"name": name}} for kind, name in objects]}

    def run(command: str, otherwise: str | None = None) -> str:
        if "services/istiod-x:15014/proxy/version" in command:
            return "1.31.1-alpha.2-abc-Clean"
        if command.endswith("/apis/networking.istio.io/v1"):
            return json.dumps({"resources": [{"name": "workloadgroups"}]})
        return json.dumps(listed)

    monkeypatch.setattr(mesh, "run", run)
    found = mesh.facts(ACCESS, "x")
    assert (found.version, found.kinds) == ("1.31.1-alpha.2", frozenset({"workloadgroups"}))
    assert [one and one["metadata"]["name"] for one in (found.istiod, found.mesh, found.injector, found.gateway)] == [
        "istiod-x",
        "istio-x",
        None,
        None,
    ]


def test_other_istiods_are_looked_for_where_there_is_not_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["", "deployment.apps/istiod-a\ndeployment.apps/istiod-b\n"])
    monkeypatch.setattr(mesh, "run", lambda command, otherwise=None: next(answers))
    found = mesh.facts(ACCESS, "")
    assert (found.istiod, found.revisions) == (None, ("istiod-a", "istiod-b"))


def test_what_kubectl_says_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "kubectl"
    script.write_text("#!/bin/sh\necho first >&2; echo 'the server said no' >&2; exit 1\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(pulumi.RunError, match=r"^the Kubernetes API gave no answer: the server said no$"):
        mesh.run("kubectl get x")
    assert mesh.run("kubectl get x", otherwise="nothing") == "nothing"
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(pulumi.RunError, match=r"^kubectl is not on PATH"):
        mesh.run("kubectl get x")
