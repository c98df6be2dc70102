"""The component around the reader: what it hands over, and that it depends on nothing."""

from collections.abc import Mapping
from dataclasses import asdict

import pulumi
import pytest
from pulumi.output import UNKNOWN, Unknown
from recording import Run, run

from components import registration
from components.registration import WAIT_SECONDS, Registration, RegistrationArgs
from registration.ladder import DeclaredVm, Evidence, Reachability
from registration.reader import Sources

VM = DeclaredVm(name="billing-1", namespace="vm-apps", workload="billing", address="10.77.0.21")
SOURCES = Sources(get=lambda _: None, probe=lambda *_: Reachability(reachable=False, detail="silent"))
CONFIRMED = '{"ready": true}'
LOST = UNKNOWN
"""What the SDK makes of the output of a resource that failed."""


@pytest.fixture(autouse=True)
def handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader says what it was asked."""

    def read(
        vms: object, evidence: Mapping[str, Evidence], sources: object, seconds: float
    ) -> tuple[dict[str, object], str]:
        assert (vms, sources) == ([VM], SOURCES)
        return {"evidence": asdict(evidence["billing-1"]), "seconds": seconds}, ""

    monkeypatch.setattr(registration, "read", read)


def registration_run(*outputs: str | Unknown, preview: bool = False) -> Run:
    def program() -> dict[str, object]:
        leaf = pulumi.CustomResource("test:index:Leaf", "leaf", {"x": None})
        steps = {
            f"billing-1-{n}": pulumi.Output.all(leaf.urn).apply(lambda _, output=output: output)
            for n, output in enumerate(outputs)
        }
        args = RegistrationArgs(sources=SOURCES, vms=[VM], steps={"billing-1": steps})
        report = Registration("registration", args).report

        async def dependencies() -> int:
            return len(await report.resources())

        return {"report": report, "dependencies": dependencies()}

    return run(program, preview=preview)


def evidence(done: Run) -> Evidence:
    return Evidence(**done.values["report"]["evidence"])


def test_the_reader_waits_in_up_only() -> None:
    up, preview = (registration_run(CONFIRMED, preview=p).values["report"]["seconds"] for p in (False, True))
    assert (up, preview) == (WAIT_SECONDS, 0)


def test_evidence_comes_without_dependencies() -> None:
    done = registration_run("done", CONFIRMED)
    assert evidence(done) == Evidence(configured=True, confirmed={"ready": True})
    assert done.values["dependencies"] == 0


def test_a_step_without_result_is_named_and_nothing_is_lost() -> None:
    done = registration_run("done", LOST, CONFIRMED)
    assert evidence(done) == Evidence(failed="billing-1-1")


def test_in_a_preview_a_step_without_result_is_one_to_be_done() -> None:
    assert evidence(registration_run("done", LOST, LOST, preview=True)) == Evidence(pending=True)
