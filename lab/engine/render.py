"""Plans, diffs and summaries as text and as the JSON of `pulumi preview --json`; pure functions."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from lab.engine import urns
from lab.engine.diffs import MISSING, compare, get, parse_path
from lab.engine.model import Step
from lab.engine.values import HIDDEN, UNKNOWN, Secret, redact

if TYPE_CHECKING:
    from lab.engine.display import Display

SYMBOLS = {"create": "+", "update": "~", "replace": "+-", "delete": "-"}
"""Steps that a plan shows; a replacement's parts are in its one line."""
DONE = {
    "create": ("+", "created"),
    "update": ("~", "updated"),
    "create-replacement": ("+", "created anew"),
    "delete-replaced": ("-", "deleted old"),
    "delete": ("-", "deleted"),
}
SUMMARY = {"create": "created", "update": "updated", "replace": "replaced", "delete": "deleted", "same": "unchanged"}
MAX_LINES = 60
UNKNOWN_TEXT = "(known after up)"


def progress(step: Step, seconds: float, *, failed: bool) -> str:
    """Return the line for a step that has ended; none where nothing was done."""
    if step.op not in DONE:
        return ""
    symbol, done = DONE[step.op]
    took = f"  {seconds:.1f}s" if seconds >= 0.05 else ""
    return f" {symbol:2} {'FAILED' if failed else done:12} {urns.label(step.urn)}{took}"


def plan(steps: Sequence[Step], *, more: bool) -> list[str]:
    """Return a preview: a line per step, the changed properties below it, what belongs together together."""
    parents = {step.urn: record.parent for step in steps if (record := step.new or step.old)}

    def place(step: Step) -> list[str]:
        """Return the way from the stack down to a step's resource, which puts plans in the same order every time."""
        way = [step.urn]
        while parent := parents.get(way[0]):
            way.insert(0, parent)
        return way

    lines: list[str] = []
    for step in sorted((step for step in steps if step.op in SYMBOLS), key=place):
        record = step.new or step.old
        because = f"  (because of {', '.join(step.diff.replace)})" if step.op == "replace" and step.diff.replace else ""
        retained = "  (retained)" if step.op == "delete" and record and record.retain_on_delete else ""
        lines.append(f" {SYMBOLS[step.op]:2} {urns.label(step.urn)}{because}{retained}")
        if step.op in ("update", "replace"):
            lines += [f"      {line}" for line in _changes(step, more=more)]
        elif more and step.op == "create" and step.new and step.new.inputs:
            lines += [f"      {line}" for line in _document(step.new.inputs)]
    return lines or ["no changes"]


def _changes(step: Step, *, more: bool) -> list[str]:
    lines: list[str] = []
    old, new = step.old, step.new
    if old is None or new is None:
        return lines
    for path in sorted(step.diff.detailed):
        before = get(old.inputs, parse_path(path))
        lines += change_lines(path, before, get(new.inputs, parse_path(path)), more=more)
    if old.init_errors:
        lines.append(f"(the last run did not see it ready: {old.init_errors[0].splitlines()[0]})")
    return lines


def change_lines(path: str, old: Any, new: Any, *, more: bool) -> list[str]:
    """Return the lines that tell how one property changes."""
    texts = isinstance(old, str) and isinstance(new, str)
    if texts and ("\n" in old or "\n" in new):
        context = 3 if more else 0
        diff = list(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=context))[2:]
        shown = [f"  {line[0]} {line[1:]}" if line[:2] != "@@" else f"  {line}" for line in diff]
        shown = [line for line in shown if more or not line.startswith("  @@")]
        if not more and len(shown) > MAX_LINES:
            shown = [*shown[:MAX_LINES], f"  ({len(shown) - MAX_LINES} more lines: --diff)"]
        return [f"{path}:", *shown]
    if old is MISSING and new is MISSING:  # compared in another form than given: a Kubernetes Secret's stringData
        return [path]
    if old is MISSING:
        return [f"+ {path}: {_short(new, more=more)}"]
    if new is MISSING:
        return [f"- {path}: {_short(old, more=more)}"]
    return [f"{path}: {_short(old, more=more)} => {_short(new, more=more)}"]


def _short(value: Any, *, more: bool) -> str:
    if isinstance(value, Secret):
        return HIDDEN
    if value is UNKNOWN:
        return UNKNOWN_TEXT
    text = json.dumps(redact(value), ensure_ascii=False)
    return text if more or len(text) <= 160 else text[:160] + "…"


def _document(values: Mapping[str, Any]) -> list[str]:
    return yaml.safe_dump(redact(values), allow_unicode=True, width=1000).splitlines()


def outputs(old: Mapping[str, Any], new: Mapping[str, Any], *, everything: bool) -> list[str]:
    """Return the stack's outputs, or those that change."""
    if everything:
        return [f"  {line}" for line in _document(new)] if new else []
    changes = compare(dict(old), dict(new))
    return [
        f"  {line}"
        for path in changes
        for line in change_lines(path, get(old, parse_path(path)), get(new, parse_path(path)), more=False)
    ]


def diagnostics(
    messages: Sequence[tuple[str, str, str]], skipped: Mapping[str, str], *, programs_too: bool
) -> list[str]:
    """Return messages by resource, then what was left alone."""
    by_urn: dict[str, list[str]] = {}
    for severity, urn, text in messages:
        if urn or severity == "error" or programs_too:
            prefix = "" if severity == "info" else f"{severity}: "
            by_urn.setdefault(urn, []).append(prefix + text)
    lines: list[str] = ["", "Diagnostics:"] if by_urn else []
    for urn, texts in by_urn.items():
        lines.append(f"  {urns.label(urn) if urn.startswith('urn:') else 'program'}:")
        lines += [f"    {line}" for text in texts for line in text.splitlines()]
    if skipped:
        lines += ["", "Left alone:", *(f"  {urns.label(urn)}: {because}" for urn, because in skipped.items())]
    return lines


def counts(steps: Iterable[Step]) -> Counter[str]:
    """Count steps as Pulumi does: a replacement once."""
    return Counter(step.op for step in steps if step.op not in ("create-replacement", "delete-replaced"))


def summary(
    steps: Sequence[Step],
    seconds: float,
    *,
    preview: bool,
    failures: Sequence[tuple[str, str, str]],
    skipped: Mapping[str, str],
) -> str:
    """Return the last line."""
    count = counts(steps)
    parts = [
        f"{count[op]} {f'to {op}' if preview and op != 'same' else done}" for op, done in SUMMARY.items() if count[op]
    ]
    errors = len({urn for severity, urn, _ in failures if severity == "error"})
    parts += [f"{errors} FAILED"] if errors else []
    parts += [f"{len(skipped)} skipped"] if skipped else []
    return f"Resources: {', '.join(parts) or 'none'}  ({seconds:.1f}s)"


def digest(display: Display, seconds: float) -> dict[str, Any]:
    """Return what `pulumi preview --json` prints."""
    return {
        "config": display.config,
        "steps": [_step(step) for step in display.steps],
        "diagnostics": [
            {"urn": urn, "message": text, "severity": severity} for severity, urn, text in display.messages
        ],
        "duration": int(seconds * 1e9),
        "changeSummary": dict(counts(display.steps)),
    }


def _step(step: Step) -> dict[str, Any]:
    record = step.new or step.old
    result: dict[str, Any] = {"op": step.op, "urn": step.urn}
    if record and record.provider:
        result["provider"] = record.provider
    for key, state in (("oldState", step.old), ("newState", step.new)):
        if state is not None:
            result[key] = state.to_json(lambda _: HIDDEN)
    detailed = step.diff.detailed
    if reasons := sorted({str(parse_path(path)[0]) for path in detailed}):
        result["diffReasons"] = reasons
    if step.diff.replace:
        result["replaceReasons"] = sorted({str(parse_path(path)[0]) for path in step.diff.replace})
    result["detailedDiff"] = {path: {"kind": kind, "inputDiff": True} for path, kind in detailed.items()} or None
    return result
