"""The component around the reader: what it hands over, and that it depends on nothing."""

import json
from typing import Any

import pulumi
from pulumi.output import UNKNOWN, Unknown
from recording import Run, run
from registration.request import parse

from components.kubectl import ClusterAccess
from components.registration import WAIT_SECONDS, Registration, RegistrationArgs
from registration.ladder import DeclaredVm, Evidence

VM = DeclaredVm(name="billing-1", namespace="vm-apps", workload="billing", address="10.77.0.21")
CONFIRMED = '{"ready": true}'
LOST = UNKNOWN
"""What the SDK makes of the output of a resource that failed."""


def registration_run(*outputs: str | Unknown, preview: bool = False) -> Run:
    def program() -> dict[str, Any]:
        leaf = pulumi.CustomResource("test:index:Leaf", "leaf", {"x": None})
        steps = {
            f"billing-1-{n}": pulumi.Output.all(leaf.urn).apply(lambda _, output=output: output)
            for n, output in enumerate(outputs)
        }
        args = RegistrationArgs(access=ClusterAccess(kubeconfig="k", context="c"), vms=[VM], steps={"billing-1": steps})
        report = Registration("registration", args).report

        async def dependencies() -> int:
            return len(await report.resources())

        return {"report": report, "dependencies": dependencies()}

    return run(program, lambda command, args: json.dumps({"got": args["stdin"]}), preview=preview)


def evidence(done: Run) -> Evidence:
    return parse(done.values["report"]["got"]).evidence["billing-1"]


def test_the_reader_gets_the_request_and_waits_in_up_only() -> None:
    up, preview = (parse(registration_run(CONFIRMED, preview=p).values["report"]["got"]) for p in (False, True))
    assert (up.kubeconfig, up.context, up.vms) == ("k", "c", (VM,))
    assert (up.deadline_seconds, preview.deadline_seconds) == (WAIT_SECONDS, 0)


def test_evidence_comes_without_dependencies() -> None:
    done = registration_run("done", CONFIRMED)
    assert evidence(done) == Evidence(configured=True, confirmed={"ready": True})
    assert done.values["dependencies"] == 0


def test_a_step_without_result_is_named_and_nothing_is_lost() -> None:
    done = registration_run("done", LOST, CONFIRMED)
    assert evidence(done) == Evidence(failed="billing-1-1")


def test_in_a_preview_a_step_without_result_is_one_to_be_done() -> None:
    assert evidence(registration_run("done", LOST, LOST, preview=True)) == Evidence(pending=True)
