"""The whole program with an authority of one's own: what another one changes."""

from pathlib import Path

import pytest
from authorities import Made, make, put
from recording import Run, public_text
from test_program import STACK, project, run_program

__all__ = ["project"]

FIRST, SECOND = make("First"), make("Second")


def with_authority(folder: Path, monkeypatch: pytest.MonkeyPatch, certificate: Made, root: str) -> Run:
    files = put(folder / "ca", certificate=certificate, root=root)
    monkeypatch.setitem(STACK, "istio", {**STACK["istio"], "caSecret": files})
    return run_program()


def changed(before: Run, after: Run) -> set[str]:
    return {name for name in before.names | after.names if before[name].inputs != after[name].inputs}


@pytest.fixture(scope="module")
def of_first(project: Path) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        return with_authority(project, patch, FIRST, FIRST.pem)


def test_another_root_reaches_every_vm_with_a_new_token(
    of_first: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = of_first
    after = with_authority(project, monkeypatch, FIRST, FIRST.pem + SECOND.pem)
    vms = {"billing-1", "billing-2", "ledger-1"}
    assert changed(before, after) >= {"istio-ca", "istio-istiod", *(f"{vm}-configure" for vm in vms)}
    identities = [
        {
            name: one.inputs["environment"]["IDENTITY"]
            for name, one in done.monitor.registered.items()
            if "IDENTITY" in (one.inputs.get("environment") or {})
        }
        for done in (before, after)
    ]
    assert len(identities[0]) == 3
    assert not set(identities[0].values()) & set(identities[1].values())


def test_another_authority_of_the_same_root_changes_nothing_on_vms(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = with_authority(project, monkeypatch, make("One", FIRST), FIRST.pem)
    after = with_authority(project, monkeypatch, make("Two", FIRST), FIRST.pem)
    assert changed(before, after) == {"istio-ca", "istio-istiod"}


def test_its_key_is_nowhere_in_plain_text(of_first: Run) -> None:
    text = "".join(public_text(one.inputs) for one in of_first.monitor.registered.values())
    assert "PRIVATE KEY" not in text
