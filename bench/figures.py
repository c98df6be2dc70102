"""Writes the bench's results as tables into docs/figures.md, in a section of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bench.measure import (
    ALL_OUT,
    JOIN,
    OPERATIONS,
    OURS,
    SIMULATED,
    Results,
    fewest,
    goals,
    grouped,
    medians,
    slope,
)

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
    if not results.figures:
        yield "Not taken on Pulumi's own engine yet."
        return
    about = results.about
    yield (
        f"Taken on {about['taken']} on {about['machine']}, with Pulumi's own engine; medians. "
        "Seconds until the mesh says `Healthy` (removal: until the entries are gone); in brackets CPU seconds of the "
        "tool's own processes where it runs, of Pulumi its plugins and the program with them. The VMs, the cluster and "
        "the tool share the machine."
    )
    figures = [figure for figure in results.figures if figure.tool != SIMULATED]
    found = medians(figures)
    for vms in sorted({n for _, n, _ in found} - {0}):
        tools = list(dict.fromkeys(tool for tool, n, _ in found if n == vms))
        yield ""
        runs = fewest(figure for figure in figures if figure.vms == vms)
        yield f"| {_number(vms, 'VM')}, {_number(runs, 'run')} | {' | '.join(tools)} |"
        yield f"|---|{'---|' * len(tools)}"
        for operation in OPERATIONS:
            cells = [found.get((tool, vms, operation)) for tool in tools]
            if any(cells):
                yield f"| {operation} | {' | '.join(_cell(cell) for cell in cells)} |"
    alone = found.get((OURS, 0, ALL_OUT))
    if alone:
        yield ""
        yield f"Everything out where there is no VM, the mesh alone: {_cell(alone)}."
    yield from _costs(results, OURS, "What `istio-vm-mesh` keeps and asks for")
    met = list(goals(results.figures, results.states))
    if met:
        yield ""
        yield "| goal | met | found |"
        yield "|---|---|---|"
        for goal, fine, what in met:
            yield f"| {goal} | {'yes' if fine else '**no**'} | {what} |"
    yield from _simulated(results)
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


def _simulated(results: Results) -> Iterator[str]:
    figures = [figure for figure in results.figures if figure.tool == SIMULATED]
    if not figures:
        return
    yield ""
    yield "### Simulated hosts"
    yield ""
    yield (
        "The hosts are one ssh server on as many addresses, which answers every command as a VM of the lab did in the "
        "same run, and in the time that it took; a host that enrols gets the WorkloadEntry that istiod made for that "
        "VM, under its own name, as connected and healthy. There are no sidecars and no traffic. Pulumi, its plugins, "
        "the program, ssh, the API server and istiod are real. What the ssh server uses is not counted, but takes its "
        "share of the machine."
    )
    found = medians(figures)
    sizes = sorted({figure.vms for figure in figures})
    yield ""
    yield f"| {_number(fewest(figures), 'run')} | {' | '.join(f'{n} VMs' for n in sizes)} | a VM more |"
    yield f"|---|{'---|' * len(sizes)}---|"
    for operation in OPERATIONS:
        taken = {n: found[SIMULATED, n, operation] for n in sizes if (SIMULATED, n, operation) in found}
        if taken:
            cells = [_cell(taken.get(n)) for n in sizes]
            yield f"| {operation} | {' | '.join(cells)} | {_slope({n: value[0] for n, value in taken.items()}, 's')} |"
    yield from _costs(results, SIMULATED)


def _costs(results: Results, tool: str, title: str = "") -> Iterator[str]:
    """Yield rows of what a tool keeps, asks for and needs: a table of its own with a title, else more rows of one."""
    states = {state.vms: state for state in results.states if state.tool == tool}
    joins = {n: group for (name, n, what), group in grouped(results.figures).items() if (name, what) == (tool, JOIN)}
    requests = {n: group[-1].requests for n, group in joins.items() if n and group[-1].requests is not None}
    peaks = {n: group[-1].peaks for n, group in joins.items() if n}
    rows: list[tuple[str, dict[int, float], str]] = [
        ("custom resources a VM", {n: state.resources for n, state in states.items()}, ""),
        ("KB of state a VM", {n: state.kilobytes for n, state in states.items()}, ""),
        ("MB of state", {n: state.megabytes for n, state in states.items()}, "MB"),
        ("API requests a VM, cold join", {n: count / n for n, count in requests.items()}, ""),
    ]
    for role in sorted({role for found in peaks.values() for role in found}):
        values = {n: found[role] for n, found in peaks.items() if role in found}
        rows.append((f"MiB of memory at most, cold join: {role}", values, "MiB"))
    sizes = sorted({n for _, values, _ in rows for n in values})
    if not sizes:
        return
    if title:
        yield ""
        yield f"| {title} | {' | '.join(_number(n, 'VM') for n in sizes)} | a VM more |"
        yield f"|---|{'---|' * len(sizes)}---|"
    for name, values, unit in rows:
        if values:
            cells = [f"{values[n]:.4g}" if n in values else "-" for n in sizes]
            yield f"| {name} | {' | '.join(cells)} | {_slope(values, unit) if unit else ''} |"


def _slope(values: dict[int, float], unit: str) -> str:
    each = slope(values)
    return "-" if each is None else f"{each:.3f} {unit}"


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _cell(value: tuple[float, float] | None) -> str:
    return f"{value[0]:.1f} ({value[1]:.1f})" if value else "-"
