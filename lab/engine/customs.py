"""One custom resource: check it, compare it with what there is, and create, update or replace it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from lab.engine import diffs
from lab.engine.deletion import delete_before, in_dependency_order
from lab.engine.deployment import Deployment, finished
from lab.engine.model import Goal, Step, StepError, explain
from lab.engine.providers.base import Diff, Provider, ProviderError
from lab.engine.state import Record
from lab.engine.values import UNKNOWN, copy_secrets, strip_secrets


def settle(run: Deployment, goal: Goal, old: Record | None) -> Record:
    """Bring a custom resource to what the program wants.

    Raises:
        ProviderError: It failed, and that is still to be told.
        StepError: It failed, and that has been told.
    """
    reference, provider = run.resolve(goal)
    record = replace(goal.record, provider=reference)
    if old is None or old.pending_replacement:
        inputs = _check(provider, record, None, record.inputs, goal.name)
        return _create(run, provider, replace(record, inputs=inputs), old)
    wanted = diffs.ignore_changes(record.inputs, old.inputs, goal.ignore_changes)
    record = replace(record, inputs=_check(provider, record, old.inputs, wanted, goal.name))
    diff = _diff(run, provider, old, record)
    if diff.replace:
        inputs = _check(provider, record, None, goal.record.inputs, goal.name)
        return _replace(run, provider, old, replace(record, inputs=inputs), diff, goal.delete_before_replace)
    if diff.changed or old.init_errors:
        return _update(run, provider, old, record, diff)
    record = finished(record, old.id, old.outputs)
    return run.note(Step("same", record.urn, old, record), record)


def _check(
    provider: Provider, record: Record, old: Mapping[str, Any] | None, new: Mapping[str, Any], name: str
) -> dict[str, Any]:
    checked = provider.check(record.type, None if old is None else strip_secrets(old), strip_secrets(new), name=name)
    result: dict[str, Any] = copy_secrets(checked, new)
    return result


def _diff(run: Deployment, provider: Provider, old: Record, new: Record) -> Diff:
    if new.deleted_with in run.replaced:
        return Diff(changed=True, replace=("deletedWith",))
    if run.registry.moved(old.provider, new.provider, run.state.records):
        return Diff(changed=True, replace=("provider",))
    before, outputs, after = (strip_secrets(values) for values in (old.inputs, old.outputs, new.inputs))
    diff = provider.diff(new.type, old.id, before, outputs, after)
    return diffs.complete(diff, old.inputs, new.inputs, new.replace_on_changes)


def _create(
    run: Deployment, provider: Provider, record: Record, old: Record | None, diff: Diff | None = None
) -> Record:
    """Create a resource; an old one that still exists is kept in state, to be deleted when the program has ended."""
    urn = record.urn
    changes: dict[str, Record | None] = {}
    if old is not None and not old.pending_replacement:
        changes[f"{urn}#{uuid.uuid4().hex[:8]}"] = replace(old, urn=urn, delete=True)
    op = "create" if old is None else "create-replacement"
    step = Step(op, urn, old, record, diff or Diff(changed=True))
    if old is not None and old.pending_replacement:
        run.events.tell(Step("replace", urn, old, record, step.diff))
    if not run.preview:
        run.state.commit({}, creating={urn: True})

    def create() -> Record:
        # While its predecessor stands, an object that is found may be that one, and would be deleted in the end.
        context = run.context(record, "create", adopt=urn in run.adopt and not changes)
        identity, outputs = provider.create(record.type, strip_secrets(record.inputs), context)
        return finished(record, identity, outputs)

    record = _carry_out(run, step, create, changes, creating={urn: False})
    if changes:
        run.events.tell(Step("replace", urn, old, record, step.diff))
    return record


def _update(run: Deployment, provider: Provider, old: Record, record: Record, diff: Diff) -> Record:
    record = replace(record, id=old.id)

    def update() -> Record:
        before, outputs, after = (strip_secrets(values) for values in (old.inputs, old.outputs, record.inputs))
        context = run.context(record, "update")
        return finished(record, old.id, provider.update(record.type, old.id, before, outputs, after, context))

    return _carry_out(run, Step("update", record.urn, old, record, diff), update, {})


def _replace(
    run: Deployment, provider: Provider, old: Record, record: Record, diff: Diff, first_delete: bool | None
) -> Record:
    run.replaced.add(record.urn)
    if not (diff.delete_before_replace if first_delete is None else first_delete):
        return _create(run, provider, record, old, diff)
    condemned = in_dependency_order(_condemned(run, replace(old, urn=record.urn)))
    names = {victim.urn for victim in condemned}
    for victim in reversed(condemned):
        delete_before(run, victim, names)
    return _create(run, provider, record, run.state.records[record.urn], diff)


def _condemned(run: Deployment, root: Record) -> list[Record]:
    """Return what cannot outlive a resource that is deleted before it is made anew: itself and what hangs on it."""
    found = {root.urn: root}
    count = 0
    while count != len(found):
        count = len(found)
        for record in list(run.state.records.values()):
            settled = record.urn in found or record.urn in run.seen or record.delete or record.pending_replacement
            if not settled and record.custom and _falls_with(run, record, set(found)):
                found[record.urn] = record
    return list(found.values())


def _falls_with(run: Deployment, record: Record, condemned: set[str]) -> bool:
    """Tell whether a change of the condemned ones would replace a resource that depends on them."""
    if record.deleted_with in condemned or record.provider.rpartition("::")[0] in condemned:
        return True
    touched = {name for name, sources in record.property_dependencies.items() if condemned & set(sources)}
    if not touched:
        return False
    before = strip_secrets(record.inputs)
    after = {name: UNKNOWN if name in touched else value for name, value in before.items()}
    provider = run.registry.of(record, run.state.records)
    diff = provider.diff(record.type, record.id, before, strip_secrets(record.outputs), after)
    return bool(diffs.complete(diff, before, after, record.replace_on_changes).replace)


def _carry_out(
    run: Deployment,
    step: Step,
    action: Callable[[], Record],
    changes: Mapping[str, Record | None],
    creating: Mapping[str, bool] | None = None,
) -> Record:
    """Run a step's action between its events and commit its outcome, that of a failure too."""
    run.events.begin(step)
    try:
        record = action()
    except Exception as error:
        text = explain(error)
        partial = error.partial if isinstance(error, ProviderError) else None
        outcome: dict[str, Record | None] = {}
        if partial is not None and step.new is not None and not run.preview:
            outcome = {**changes, step.urn: finished(step.new, *partial, errors=(text,))}
        run.state.commit(outcome, creating=creating)
        run.events.end(step, text)
        raise StepError(text) from error
    run.state.commit({**changes, step.urn: record}, creating=creating)
    run.events.end(replace(step, new=record))
    return record
