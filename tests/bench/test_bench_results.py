"""What the bench makes of its measurements: medians, verdicts on goals, and a section that leaves the rest alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import figures
from bench.__main__ import parser
from bench.measure import Figure, Results, goals, medians

ABOUT = {"taken": "2026-11-21", "machine": "2 cores"}


def taken(tool: str, vms: int, operation: str, *seconds: float, cpu: float = 1.0) -> list[Figure]:
    return [Figure(tool, vms, operation, n, value, cpu) for n, value in enumerate(seconds)]


def verdicts(*groups: list[Figure]) -> dict[str, tuple[bool, str]]:
    return {goal: (met, found) for goal, met, found in goals([figure for group in groups for figure in group])}


def test_one_slow_run_does_not_count() -> None:
    found = medians(taken("a", 1, "cold join", 3.0, 90.0, 2.0) + taken("a", 10, "cold join", 4.0))
    assert found == {("a", 1, "cold join"): (3.0, 1.0), ("a", 10, "cold join"): (4.0, 1.0)}


def test_goals_are_met_or_not_and_say_by_which_figures() -> None:
    found = verdicts(
        taken("istio-vm-mesh", 1, "cold join", 6.0, cpu=3.0),
        taken("istio-vm-mesh", 11, "cold join", 16.0, cpu=8.0),
        taken("shell xargs -P", 1, "cold join", 5.0),
        taken("shell xargs -P", 11, "cold join", 10.0),
        taken("istio-vm-mesh", 1, "no-op", 2.0),
        taken("istio-vm-mesh", 11, "no-op", 2.3),
        taken("istio-vm-mesh", 1, "one label changed", 4.0),
        taken("istio-vm-mesh", 11, "one label changed", 5.0),
        taken("ansible-core", 11, "cold join", 60.0),
        taken("pyinfra", 11, "cold join", 12.0),
        taken("istio-vm-mesh", 11, "cold join, four broken", 18.0),
    )
    assert found == {
        "cold join at most 1.5 x the parallel shell's": (False, "1 VMs: 1.20 x, 11 VMs: 1.60 x"),
        "ahead of ansible-core everywhere": (True, "everywhere"),
        "ahead of pyinfra everywhere": (False, "cold join with 11: 16.0 s, pyinfra 12.0 s"),
        "no-op independent of the number of VMs within 20%": (True, "1 VMs: 2.00 s, 11 VMs: 2.30 s"),
        "one label changed independent of the number of VMs within 20%": (False, "1 VMs: 4.00 s, 11 VMs: 5.00 s"),
        "at most 1.0 s of CPU for each VM that joins": (True, "0.50 s"),
        "four broken VMs: at most 1.3 x the time without them": (True, "11 VMs: 1.12 x"),
    }


def test_no_figure_no_verdict() -> None:
    assert verdicts(taken("istio-vm-mesh", 1, "cold join", 6.0), taken("pyinfra", 10, "cold join", 7.0)) == {}


def test_results_are_whole_after_each_measurement(tmp_path: Path) -> None:
    results = Results(tmp_path / "bench.json", ABOUT)
    assert results.measure("a", 1, "cold join", 0, lambda: None, lambda: None)

    def refuse() -> None:
        raise RuntimeError("not healthy")

    assert not results.measure("a", 1, "no-op", 0, lambda: None, refuse)
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


def test_a_bench_in_portions(tmp_path: Path) -> None:
    for size in (1, 10):
        results = Results(tmp_path / "bench.json", ABOUT, add=True)
        assert results.measure("a", size, "cold join", 0, lambda: None, lambda: None)
    assert [figure.vms for figure in results.figures] == [1, 10]
    results.figures += taken("a", 1, "cold join", 1.0, 2.0)
    figures.write(tmp_path / "figures.md", results)
    text = (tmp_path / "figures.md").read_text()
    assert "| 1 VM, 3 runs | a |" in text
    assert "| 10 VMs, 1 run | a |" in text
    assert Results(tmp_path / "bench.json", ABOUT).figures == []


@pytest.mark.parametrize(("argv", "sizes"), [([], [1, 10, 50]), (["--sizes", "2"], [2])])
def test_the_command_line(argv: list[str], sizes: list[int]) -> None:
    options = parser().parse_args(argv)
    assert options.sizes == sizes
    assert options.repeat == 5
    assert options.tools == ["istio-vm-mesh", "shell", "shell xargs -P", "ansible-core", "pyinfra"]
