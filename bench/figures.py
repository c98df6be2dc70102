"""Writes the bench's results as tables into docs/figures.md, in a section of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bench.measure import OPERATIONS, OURS, Results, fewest, goals, medians

BEGIN, END = "<!-- bench: written by `make bench` -->", "<!-- end of bench -->"
TITLE = "# Measured figures\n"


def section(results: Results) -> str:
    """Return the section's text."""
    return "\n".join([BEGIN, "## Bench", "", *_lines(results), END]) + "\n"


def write(file: Path, results: Results) -> None:
    """Put the section into the file, in place of the one that is there; nothing else is touched."""
    text = file.read_text() if file.exists() else TITLE
    found = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}\n", re.DOTALL)
    new = section(results)
    file.write_text(found.sub(lambda _: new, text) if found.search(text) else f"{text.rstrip()}\n\n{new}")


def _lines(results: Results) -> Iterator[str]:
    about = results.about
    yield (
        f"Taken on {about['taken']} on {about['machine']}, with the embedded engine; medians. "
        "Seconds until the mesh says `Healthy` (removal: until the entries are gone); in brackets CPU seconds of the "
        "tool on the machine that it runs on, which here are also the VMs'. "
    )
    found = medians(results.figures)
    for vms in sorted({n for _, n, _ in found}):
        tools = list(dict.fromkeys(tool for tool, n, _ in found if n == vms))
        yield ""
        runs = fewest(figure for figure in results.figures if figure.vms == vms)
        yield f"| {_number(vms, 'VM')}, {_number(runs, 'run')} | {' | '.join(tools)} |"
        yield f"|---|{'---|' * len(tools)}"
        for operation in OPERATIONS:
            cells = [found.get((tool, vms, operation)) for tool in tools]
            if any(cells):
                yield f"| {operation} | {' | '.join(_cell(cell) for cell in cells)} |"
    met = list(goals(results.figures))
    if met:
        yield ""
        yield "| goal | met | found |"
        yield "|---|---|---|"
        for goal, fine, what in met:
            yield f"| {goal} | {'yes' if fine else '**no**'} | {what} |"
    if results.failures:
        yield ""
        yield "Did not succeed:"
        yield ""
        for failure in results.failures:
            where = f"{failure.tool}, {failure.vms} VMs, {failure.operation} (run {failure.repeat + 1})"
            yield f"- {where}: {' '.join(failure.reason.split())[-300:]}"
    if any(tool != OURS for tool, _, _ in found):
        yield ""
        yield (
            "`shell` does for each VM what Istio's documentation says: `istioctl x workload entry configure`, one ssh "
            "stream, the start, the wait; a second run of it does everything again. It knows which VM has changed; the "
            "others are told by comparing. All of them download the package from the same place and wait for the same "
            "verdict, the WorkloadEntry's condition. Ansible runs with pipelining, ControlPersist, a fork for each VM "
            "and no facts, and finds Python on the VMs; its and pyinfra's files come from as many `istioctl` at once "
            "as there are cores."
        )
        yield ""
        yield (
            "Only `istio-vm-mesh` checks a VM before it changes anything, takes one that serves out of the mesh before "
            "it restarts its sidecar or removes it (two seconds, and the other proxies' word that they have forgotten "
            "it), and opens a second connection as proof that the VM can still be reached."
        )


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _cell(value: tuple[float, float] | None) -> str:
    return f"{value[0]:.1f} ({value[1]:.1f})" if value else "-"
