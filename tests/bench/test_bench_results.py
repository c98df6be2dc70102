"""What the bench makes of its measurements: medians, verdicts on goals, and a section that leaves the rest alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench import figures
from bench.__main__ import parser
from bench.measure import Figure, Results, State, Usage, goals, medians, of_state, slope

ABOUT = {"taken": "2026-11-21", "machine": "2 cores"}


def taken(tool: str, vms: int, operation: str, *seconds: float, cpu: float = 1.0) -> list[Figure]:
    return [Figure(tool, vms, operation, n, value, cpu) for n, value in enumerate(seconds)]


def verdicts(*groups: list[Figure], states: Sequence[State] = ()) -> dict[str, tuple[bool, str]]:
    return {goal: (met, found) for goal, met, found in goals([figure for group in groups for figure in group], states)}


def test_one_slow_run_does_not_count() -> None:
    found = medians(taken("a", 1, "cold join", 3.0, 90.0, 2.0) + taken("a", 10, "cold join", 4.0))
    assert found == {("a", 1, "cold join"): (3.0, 1.0), ("a", 10, "cold join"): (4.0, 1.0)}


def test_goals_are_met_or_not_and_say_by_which_figures() -> None:
    ours = "istio-vm-mesh"
    found = verdicts(
        taken(ours, 2, "cold join", 6.0, cpu=3.0),
        taken(ours, 12, "cold join", 16.0, cpu=8.0),
        taken("shell xargs -P", 12, "cold join", 10.0),
        taken("pyinfra", 12, "cold join", 13.0),
        taken("pyinfra", 2, "cold join", 1.0),
        taken(ours, 2, "no-op", 5.0),
        taken(ours, 12, "no-op", 5.5),
        taken(ours, 12, "one label changed", 15.1),
        taken(ours, 0, "everything out", 20.0),
        taken(ours, 12, "everything out", 45.0),
        taken("shell xargs -P", 12, "removal", 10.0),
        taken(ours, 12, "cold join with four broken", 18.0),
        states=[State(ours, 2, 0, 6.0, 31.5, 0.5), State(ours, 12, 0, 6.0, 28, 0.9)],
    )
    assert found == {
        "join at most 1.25 x the faster of `xargs -P` and pyinfra": (False, "12 VMs: 1.60 x (shell xargs -P)"),
        "no-op at most 8 s": (True, "12 VMs: 5.5 s"),
        "no-op at most 0.1 s more a VM": (True, "0.050 s, from 2, 12 VMs"),
        "one label of one VM at most 15 s": (False, "12 VMs: 15.1 s"),
        "everything out at most 1.5 x the shell's removal and what the mesh alone takes": (
            True,
            "12 VMs: 1.50 x (45.0 s; 10.0 and 20.0 s); 4.50 x the shell's removal alone",
        ),
        "no-op with 2 VMs at most 4.5 s": (False, "5.0 s"),
        "at most 6 custom resources a VM": (True, "2 VMs: 6, 12 VMs: 6"),
        "at most 30 KB of state a VM": (False, "2 VMs: 31.5, 12 VMs: 28"),
        "at most 1 s of CPU for each VM that joins": (True, "0.50 s"),
        "four broken VMs: at most 1.3 x the time without them": (True, "12 VMs: 1.12 x"),
    }


def test_what_one_vm_more_adds() -> None:
    assert slope({200: 5.0, 500: 11.0, 1000: 21.0}) == pytest.approx(0.02)
    assert slope({200: 5.0}) is None


def test_what_the_state_keeps_of_a_vm() -> None:
    def resource(urn: str, parent: str = "", **more: object) -> dict[str, object]:
        return {"urn": f"urn:pulumi:dev::p::{urn}", "parent": parent and f"urn:pulumi:dev::p::{parent}", **more}

    component = "istiovm:index:VirtualMachine"
    resources = [
        resource("pulumi:pulumi:Stack::dev"),
        resource(f"{component}::a", "pulumi:pulumi:Stack::dev"),
        resource(f"{component}$command:remote:Command::a-configure", f"{component}::a", custom=True, inputs="x" * 1000),
        resource(f"{component}$command:remote:Command::a-confirm", f"{component}::a", custom=True),
        resource(f"{component}::other", "pulumi:pulumi:Stack::dev"),
        resource("istiovm:index:Workload::a", "pulumi:pulumi:Stack::dev", custom=True, inputs="y" * 9000),
    ]
    exported = json.dumps({"deployment": {"resources": resources}})
    found = of_state("t", ["a"], 0, exported)
    assert (found.resources, found.megabytes) == (2, round(len(exported) / 1e6, 3))
    assert 1.3 < found.kilobytes < 1.9


def test_no_figure_no_verdict() -> None:
    assert verdicts(taken("istio-vm-mesh", 1, "cold join", 6.0), taken("pyinfra", 10, "cold join", 7.0)) == {}


def test_results_are_whole_after_each_measurement(tmp_path: Path) -> None:
    results = Results(tmp_path / "bench.json", ABOUT)
    used = Usage(cpu=1.5, aside=-100.0)
    assert results.measure("a", 1, "cold join", 0, lambda: None, lambda: None, used)
    assert (results.figures[0].cpu, round(results.figures[0].seconds)) == (1.5, 100)

    def refuse() -> None:
        raise RuntimeError("not healthy")

    assert not results.measure("a", 1, "no-op", 0, lambda: None, refuse, Usage())
    data = json.loads((tmp_path / "bench.json").read_text())
    assert data["machine"] == "2 cores"
    assert [(figure["tool"], figure["operation"]) for figure in data["figures"]] == [("a", "cold join")]
    assert data["failures"] == [{"tool": "a", "vms": 1, "operation": "no-op", "repeat": 0, "reason": "not healthy"}]


def test_the_section_is_written_anew_and_the_rest_stays(tmp_path: Path) -> None:
    results = Results(tmp_path / "bench.json", ABOUT)
    results.figures += taken("istio-vm-mesh", 10, "cold join", 5.0, cpu=2.0)
    file = tmp_path / "figures.md"
    file.write_text("# Measured figures\n\n## Others\n\nstay\n")
    figures.write(file, results)
    once = file.read_text()
    assert once.startswith("# Measured figures\n\n## Others\n\nstay\n\n<!-- bench")
    assert "| 10 VMs, 1 run | istio-vm-mesh |\n|---|---|\n| cold join | 5.0 (2.0) |\n" in once
    file.write_text(once + "\n## More\n")
    results.figures.clear()
    results.figures += taken("istio-vm-mesh", 10, "cold join", 7.0, cpu=2.0)
    figures.write(file, results)
    assert file.read_text() == once.replace("5.0 (2.0)", "7.0 (2.0)") + "\n## More\n"


def test_figures_that_were_not_taken_are_not_there(tmp_path: Path) -> None:
    assert "\n## Bench\n\nNot taken on Pulumi's own engine yet.\n<!--" in figures.section(
        Results(tmp_path / "none", {})
    )


def test_a_bench_in_portions(tmp_path: Path) -> None:
    for size in (1, 10):
        results = Results(tmp_path / "bench.json", ABOUT, add=True)
        assert results.measure("a", size, "cold join", 0, lambda: None, lambda: None, Usage())
    assert [figure.vms for figure in results.figures] == [1, 10]
    results.figures += taken("a", 1, "cold join", 1.0, 2.0)
    figures.write(tmp_path / "figures.md", results)
    text = (tmp_path / "figures.md").read_text()
    assert "| 1 VM, 3 runs | a |" in text
    assert "| 10 VMs, 1 run | a |" in text
    assert Results(tmp_path / "bench.json", ABOUT).figures == []


@pytest.mark.parametrize(("argv", "sizes"), [([], [0, 1, 2, 10, 50]), (["--sizes", "2"], [2]), (["--sizes", ""], [])])
def test_the_command_line(argv: list[str], sizes: list[int]) -> None:
    options = parser().parse_args(argv)
    assert options.sizes == sizes
    assert options.repeat == 5
    assert options.tools == ["istio-vm-mesh", "shell", "shell xargs -P", "ansible-core", "pyinfra"]
