"""What is measured, in which order, and what is made of it: medians, and whether the goals are met."""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

OURS = "istio-vm-mesh"
BASELINE = "shell xargs -P"
JOIN, AGAIN, RELABEL = "cold join", "no-op", "one label changed"
LOOK = "no-op, hosts observed"
BROKEN = "cold join, four broken"
OPERATIONS = (JOIN, AGAIN, LOOK, RELABEL, "token renewal", "upgrade", "removal", BROKEN)
SHELL_FACTOR = 1.5
SPREAD = 1.2
CPU_SECONDS = 1.0
BROKEN_FACTOR = 1.3


@dataclass(frozen=True)
class Figure:
    """One measurement."""

    tool: str
    vms: int
    operation: str
    repeat: int
    seconds: float
    """Until the mesh says that it is done."""
    cpu: float
    """CPU seconds of the tool's own processes on this machine."""


@dataclass(frozen=True)
class Failure:
    """An operation that did not succeed."""

    tool: str
    vms: int
    operation: str
    repeat: int
    reason: str


class Results:
    """All measurements, in a file that is whole after each one.

    Args:
        file: Where they go.
        about: What is known of the machine and the run.
        add: Whether what is in the file stays.
    """

    def __init__(self, file: Path, about: dict[str, Any], *, add: bool = False) -> None:
        self.about = about
        self._file = file
        earlier = json.loads(file.read_text()) if add and file.exists() else {}
        self.figures = [Figure(**figure) for figure in earlier.get("figures", [])]
        self.failures = [Failure(**failure) for failure in earlier.get("failures", [])]

    def measure(
        self, tool: str, vms: int, operation: str, repeat: int, work: Callable[[], None], verdict: Callable[[], None]
    ) -> bool:
        """Do and time something until the verdict is there; return whether it went well."""
        begin, before = time.monotonic(), _cpu()
        try:
            work()
            spent = _cpu() - before
            verdict()
        except (RuntimeError, OSError, ValueError) as error:
            self.failures.append(Failure(tool, vms, operation, repeat, str(error)[-2000:]))
            self.write()
            return False
        seconds = time.monotonic() - begin
        self.figures.append(Figure(tool, vms, operation, repeat, round(seconds, 2), round(spent, 2)))
        self.write()
        return True

    def write(self) -> None:
        """Write everything down."""
        data = {
            **self.about,
            "figures": [asdict(figure) for figure in self.figures],
            "failures": [asdict(failure) for failure in self.failures],
            "medians": [
                {"tool": tool, "vms": vms, "operation": operation, "seconds": seconds, "cpu": cpu}
                for (tool, vms, operation), (seconds, cpu) in medians(self.figures).items()
            ],
            "goals": [{"goal": goal, "met": met, "found": found} for goal, met, found in goals(self.figures)],
        }
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(data, indent=1) + "\n")
        part.replace(self._file)


def medians(figures: Iterable[Figure]) -> dict[tuple[str, int, str], tuple[float, float]]:
    """Return the median seconds and CPU seconds by tool, number of VMs and operation."""
    found: dict[tuple[str, int, str], list[Figure]] = {}
    for figure in figures:
        found.setdefault((figure.tool, figure.vms, figure.operation), []).append(figure)
    return {
        key: (
            round(statistics.median(figure.seconds for figure in group), 2),
            round(statistics.median(figure.cpu for figure in group), 2),
        )
        for key, group in found.items()
    }


def fewest(figures: Iterable[Figure]) -> int:
    """Return of how many measurements each median is, at least."""
    return min(Counter((figure.tool, figure.vms, figure.operation) for figure in figures).values(), default=0)


def goals(figures: Sequence[Figure]) -> Iterator[tuple[str, bool, str]]:
    """Yield each goal, whether it is met, and the figures that say so; nothing where a figure is missing."""
    known = medians(figures)
    sizes = sorted({vms for _, vms, _ in known})
    seconds = {key: value for key, (value, _) in known.items()}

    joins = {n: (seconds.get((OURS, n, JOIN)), seconds.get((BASELINE, n, JOIN))) for n in sizes}
    ratios = {n: ours / theirs for n, (ours, theirs) in joins.items() if ours and theirs}
    if ratios:
        yield (
            f"cold join at most {SHELL_FACTOR} x the parallel shell's",
            max(ratios.values()) <= SHELL_FACTOR,
            _each(ratios, "x"),
        )
    for rival in ("ansible-core", "pyinfra"):
        compared = [
            (n, operation, ours, theirs)
            for n in sizes
            for operation in OPERATIONS
            if (ours := seconds.get((OURS, n, operation))) and (theirs := seconds.get((rival, n, operation)))
        ]
        behind = [
            f"{what} with {n}: {ours} s, {rival} {theirs} s" for n, what, ours, theirs in compared if ours >= theirs
        ]
        if compared:
            yield f"ahead of {rival} everywhere", not behind, "; ".join(behind) or "everywhere"
    for operation in (AGAIN, RELABEL):
        found = {n: seconds[OURS, n, operation] for n in sizes if (OURS, n, operation) in seconds}
        if len(found) > 1:
            spread = max(found.values()) / min(found.values())
            yield (
                f"{operation} independent of the number of VMs within {SPREAD - 1:.0%}",
                spread <= SPREAD,
                _each(found, "s"),
            )
    cpu = {n: known[OURS, n, JOIN][1] for n in sizes if (OURS, n, JOIN) in known}
    if len(cpu) > 1:
        least, most = min(cpu), max(cpu)
        each = (cpu[most] - cpu[least]) / (most - least)
        yield f"at most {CPU_SECONDS} s of CPU for each VM that joins", each <= CPU_SECONDS, f"{each:.2f} s"
    broken = {n: seconds[OURS, n, BROKEN] / seconds[OURS, n, JOIN] for n in sizes if (OURS, n, BROKEN) in seconds}
    if broken:
        yield (
            f"four broken VMs: at most {BROKEN_FACTOR} x the time without them",
            max(broken.values()) <= BROKEN_FACTOR,
            _each(broken, "x"),
        )


def _each(values: dict[int, float], unit: str) -> str:
    return ", ".join(f"{n} VMs: {value:.2f} {unit}" for n, value in values.items())


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
