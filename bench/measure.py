"""What is measured, and what is made of it: medians, slopes, and whether the goals are met."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OURS, SIMULATED = "istio-vm-mesh", "istio-vm-mesh, simulated hosts"
SHELL, PYINFRA = "shell xargs -P", "pyinfra"
JOIN, AGAIN, RELABEL, REMOVAL = "cold join", "no-op", "one label changed", "removal"
LOOK = "no-op with observation"
RENEWAL, UPGRADE = "token renewal", "upgrade"
BROKEN = "cold join with four broken"
ALL_OUT = "everything out"
"""With 0 VMs: the mesh alone."""
PREVIEW_JOIN, PREVIEW = "preview of the join", "preview of nothing"
OPERATIONS = (PREVIEW_JOIN, JOIN, AGAIN, PREVIEW, LOOK, RELABEL, RENEWAL, UPGRADE, REMOVAL, ALL_OUT, BROKEN)

JOIN_FACTOR = 1.25
NO_OP_SECONDS, NO_OP_SECONDS_A_VM = 8.0, 0.1
RELABEL_SECONDS = 15.0
ALL_OUT_FACTOR = 1.5
TWO_VMS_SECONDS = 4.5
RESOURCES, KILOBYTES = 6, 30.0
CPU_SECONDS = 1.0
BROKEN_FACTOR = 1.3


@dataclass
class Usage:
    """What a tool has used for one operation."""

    cpu: float = 0.0
    """CPU seconds of its processes on the machine that it runs on."""
    requests: float | None = None
    """Requests that the API server has answered meanwhile, more than it does by itself."""
    peaks: dict[str, float] = field(default_factory=dict)
    """MiB of resident memory at most, by process."""
    aside: float = 0.0
    """Seconds that the measuring itself took."""

    def run(
        self, argv: Sequence[str], *, seconds: float, cwd: Path, env: Mapping[str, str], stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the tool's, and add what it uses."""
        begin = time.monotonic()
        with tempfile.NamedTemporaryFile(suffix=".json") as report:
            watcher = [sys.executable, "-ISs", str(Path(__file__).with_name("usage.py")), report.name]
            done = subprocess.run(
                [*watcher, *argv], input=stdin, cwd=cwd, env=dict(env), capture_output=True, text=True, timeout=seconds
            )
            used = json.loads(Path(report.name).read_text())
        self.aside += time.monotonic() - begin - used["seconds"]
        self.cpu += used["cpu"]
        for role, peak in used["peaks"].items():
            self.peaks[role] = max(round(peak / 1024, 1), self.peaks.get(role, 0.0))
        return done


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
    requests: float | None = None
    """As in `Usage`."""
    peaks: Mapping[str, float] = field(default_factory=dict)
    """As in `Usage`."""


@dataclass(frozen=True)
class State:
    """What a stack keeps of VMs that have joined."""

    tool: str
    vms: int
    repeat: int
    resources: float
    """Custom resources a VM, its component aside."""
    kilobytes: float
    """Of a VM's resources, its component with them."""
    megabytes: float
    """Of the whole state."""


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
        self.states = [State(**state) for state in earlier.get("states", [])]
        self.failures = [Failure(**failure) for failure in earlier.get("failures", [])]

    def measure(
        self,
        tool: str,
        vms: int,
        operation: str,
        repeat: int,
        work: Callable[[], None],
        verdict: Callable[[], None],
        used: Usage,
    ) -> bool:
        """Do and time something until the verdict is there; return whether it went well.

        Args:
            tool: Who does it.
            vms: To how many VMs.
            operation: What.
            repeat: Which run.
            work: Does it.
            verdict: Returns when the mesh says that it is done.
            used: Where `work` notes what it uses.
        """
        begin = time.monotonic()
        try:
            work()
            verdict()
        except (RuntimeError, OSError, ValueError, subprocess.TimeoutExpired) as error:
            self.fail(tool, vms, operation, repeat, error)
            return False
        seconds = time.monotonic() - begin - used.aside
        figure = Figure(tool, vms, operation, repeat, round(seconds, 2), round(used.cpu, 2), used.requests, used.peaks)
        self.figures.append(figure)
        self.write()
        self._say(tool, vms, operation, repeat, f"{seconds:7.1f} s")
        return True

    def fail(self, tool: str, vms: int, operation: str, repeat: int, error: Exception) -> None:
        """Note that something did not succeed."""
        self.failures.append(Failure(tool, vms, operation, repeat, str(error)[-2000:]))
        self.write()
        self._say(tool, vms, operation, repeat, f"did not succeed: {error}")

    def _say(self, tool: str, vms: int, operation: str, repeat: int, what: str) -> None:
        print(f"{vms:4} VMs  run {repeat + 1}  {tool:16} {operation:24} {what}", file=sys.stderr, flush=True)

    def write(self) -> None:
        """Write everything down."""
        data = {
            **self.about,
            "figures": [asdict(figure) for figure in self.figures],
            "states": [asdict(state) for state in self.states],
            "failures": [asdict(failure) for failure in self.failures],
            "goals": [
                {"goal": goal, "met": met, "found": found} for goal, met, found in goals(self.figures, self.states)
            ],
        }
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(data, indent=1) + "\n")
        part.replace(self._file)


def of_state(tool: str, vms: Sequence[str], repeat: int, exported: str) -> State:
    """Return what a stack keeps, from what `pulumi stack export` prints.

    Args:
        tool: Whose figure this is.
        vms: Names of the VMs.
        repeat: Which run.
        exported: The stack as JSON.
    """
    resources = json.loads(exported)["deployment"]["resources"]
    parents = {resource["urn"]: resource.get("parent", "") for resource in resources}
    ours = [resource for resource in resources if any(_vm_of(resource["urn"], parents) == vm for vm in vms)]
    custom = sum(resource.get("custom", False) for resource in ours)
    size = sum(len(json.dumps(resource, indent=4)) for resource in ours)
    return State(
        tool,
        len(vms),
        repeat,
        round(custom / len(vms), 2),
        round(size / len(vms) / 1000, 2),
        round(len(exported) / 1e6, 3),
    )


def _vm_of(urn: str, parents: Mapping[str, str]) -> str | None:
    """Return whose component a resource is or is under; None for the others."""
    while urn and not urn.rpartition("::")[0].endswith("istiovm:index:VirtualMachine"):
        urn = parents.get(urn, "")
    return urn.rpartition("::")[2] or None


Key = tuple[str, int, str]


def medians(figures: Iterable[Figure]) -> dict[Key, tuple[float, float]]:
    """Return the median seconds and CPU seconds by tool, number of VMs and operation."""
    return {
        key: (
            round(statistics.median(figure.seconds for figure in group), 2),
            round(statistics.median(figure.cpu for figure in group), 2),
        )
        for key, group in grouped(figures).items()
    }


def grouped(figures: Iterable[Figure]) -> dict[Key, list[Figure]]:
    """Return the measurements of each tool, number of VMs and operation."""
    found: dict[Key, list[Figure]] = {}
    for figure in figures:
        found.setdefault((figure.tool, figure.vms, figure.operation), []).append(figure)
    return found


def fewest(figures: Iterable[Figure]) -> int:
    """Return of how many measurements each median is, at least."""
    return min(Counter((figure.tool, figure.vms, figure.operation) for figure in figures).values(), default=0)


def slope(values: Mapping[int, float]) -> float | None:
    """Return what one VM more adds, by the straight line that fits best; None with fewer than two sizes."""
    return statistics.linear_regression(list(values), list(values.values())).slope if len(values) > 1 else None


def goals(figures: Sequence[Figure], states: Sequence[State] = ()) -> Iterator[tuple[str, bool, str]]:
    """Yield each goal, whether it is met, and the figures that say so; nothing where a figure is missing.

    What is compared with others is compared at the largest size at which all were measured.
    """
    known = medians(figures)
    seconds = {key: value for key, (value, _) in known.items()}

    def ours(operation: str) -> dict[int, float]:
        return {n: value for (tool, n, what), value in sorted(seconds.items()) if (tool, what) == (OURS, operation)}

    def largest(operation: str, *others: tuple[str, str]) -> int | None:
        sizes = [n for n in ours(operation) if n and all((tool, n, what) in seconds for tool, what in others)]
        return max(sizes, default=None)

    n = largest(JOIN, (SHELL, JOIN), (PYINFRA, JOIN))
    if n:
        rivals = {tool: seconds[tool, n, JOIN] for tool in (SHELL, PYINFRA)}
        fastest = min(rivals, key=lambda tool: rivals[tool])
        ratio = seconds[OURS, n, JOIN] / rivals[fastest]
        yield (
            f"join at most {JOIN_FACTOR} x the faster of `xargs -P` and pyinfra",
            ratio <= JOIN_FACTOR,
            f"{_vms(n)}: {ratio:.2f} x ({fastest})",
        )
    again = {n: value for n, value in ours(AGAIN).items() if n}
    if again:
        n = max(again)
        yield f"no-op at most {NO_OP_SECONDS:g} s", again[n] <= NO_OP_SECONDS, f"{_vms(n)}: {again[n]:.1f} s"
    each = slope(again)
    if each is not None:
        yield (
            f"no-op at most {NO_OP_SECONDS_A_VM} s more a VM",
            each <= NO_OP_SECONDS_A_VM,
            f"{each:.3f} s, from {', '.join(map(str, again))} VMs",
        )
    n = largest(RELABEL)
    if n:
        took = seconds[OURS, n, RELABEL]
        yield f"one label of one VM at most {RELABEL_SECONDS:g} s", took <= RELABEL_SECONDS, f"{_vms(n)}: {took:.1f} s"
    n = largest(ALL_OUT, (SHELL, REMOVAL))
    if n and (OURS, 0, ALL_OUT) in seconds:
        took, shell, mesh = seconds[OURS, n, ALL_OUT], seconds[SHELL, n, REMOVAL], seconds[OURS, 0, ALL_OUT]
        ratio = took / (shell + mesh)
        yield (
            f"everything out at most {ALL_OUT_FACTOR} x the shell's removal and what the mesh alone takes",
            ratio <= ALL_OUT_FACTOR,
            f"{_vms(n)}: {ratio:.2f} x ({took:.1f} s; {shell:.1f} and {mesh:.1f} s); "
            f"{took / shell:.2f} x the shell's removal alone",
        )
    if 2 in again:
        yield f"no-op with 2 VMs at most {TWO_VMS_SECONDS} s", again[2] <= TWO_VMS_SECONDS, f"{again[2]:.1f} s"
    for what, limit, values in (
        ("custom resources", RESOURCES, {state.vms: state.resources for state in states}),
        ("KB of state", KILOBYTES, {state.vms: state.kilobytes for state in states}),
    ):
        if values:
            found = ", ".join(f"{_vms(n)}: {value:g}" for n, value in sorted(values.items()))
            yield f"at most {limit:g} {what} a VM", max(values.values()) <= limit, found
    cpu = {n: known[OURS, n, JOIN][1] for n in ours(JOIN)}
    each = slope(cpu)
    if each is not None:
        yield f"at most {CPU_SECONDS:g} s of CPU for each VM that joins", each <= CPU_SECONDS, f"{each:.2f} s"
    broken = {n: seconds[OURS, n, BROKEN] / seconds[OURS, n, JOIN] for n in ours(BROKEN) if n in ours(JOIN)}
    if broken:
        yield (
            f"four broken VMs: at most {BROKEN_FACTOR} x the time without them",
            max(broken.values()) <= BROKEN_FACTOR,
            ", ".join(f"{_vms(n)}: {value:.2f} x" for n, value in broken.items()),
        )


def _vms(count: int) -> str:
    return f"{count} VM{'' if count == 1 else 's'}"
