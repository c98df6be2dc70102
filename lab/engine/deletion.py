"""Deleting: what the program no longer registers, old ones of replacements, everything; dependents always first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

from lab.engine.deployment import Deployment
from lab.engine.model import Step, StepError, explain
from lab.engine.state import Record
from lab.engine.values import strip_secrets

PARALLEL = 64


def in_dependency_order(records: Iterable[Record]) -> list[Record]:
    """Return the records so that each comes after those it needs."""
    by_urn = {record.urn: record for record in records}
    done: dict[str, Record] = {}

    def visit(record: Record) -> None:
        if record.urn not in done:
            for urn in sorted(record.needs() & by_urn.keys() - {record.urn}):
                visit(by_urn[urn])
            done[record.urn] = record

    for record in by_urn.values():
        visit(record)
    return list(done.values())


def delete_before(run: Deployment, record: Record, condemned: set[str]) -> None:
    """Delete a resource that will be created anew in this run, and note that; raises StepError."""
    _delete(run, record, "delete-replaced", condemned)
    run.state.commit({record.urn: replace(record, pending_replacement=True)})


def _delete(run: Deployment, record: Record, op: str, condemned: set[str]) -> None:
    step = Step(op, record.urn, record)
    run.events.begin(step)
    try:
        untouched = record.retain_on_delete or record.deleted_with in condemned
        untouched = untouched or _succeeded_in_place(run, record)
        if record.custom and not untouched and not run.preview:
            provider = run.registry.of(record, run.state.records)
            inputs, outputs = strip_secrets(record.inputs), strip_secrets(record.outputs)
            provider.delete(record.type, record.id, inputs, outputs, run.context(record, "delete"))
    except Exception as error:
        text = explain(error)
        run.events.end(step, text)
        raise StepError(text) from error
    run.events.end(step)


def _succeeded_in_place(run: Deployment, record: Record) -> bool:
    """Tell whether an old one is the very object that its successor is: of the same id, in the same place."""
    now = run.state.records.get(record.urn)
    if not record.delete or now is None or now.id != record.id:
        return False
    return not run.registry.moved(record.provider, now.provider, run.state.records)


def delete_rest(run: Deployment, *, everything: bool = False) -> None:
    """Delete what this run did not register, in parallel as far as dependencies allow.

    What a failed resource needs stays, and so does what lies under a failed component.

    Args:
        run: The deployment, its program ended.
        everything: Destroy the stack.
    """
    records = dict(run.state.records)
    gone = {key: None for key, record in records.items() if record.pending_replacement and record.urn not in run.seen}
    run.state.commit(gone)
    doomed = {
        key: record
        for key, record in records.items()
        if key not in gone and (everything or record.delete or record.urn not in run.seen)
    }
    _Deletes(run, doomed, _kept(run, records)).run()


def _kept(run: Deployment, records: Mapping[str, Record]) -> set[str]:
    """Return the URNs that must stay because of failures in the program's part of the run."""
    under_failed: set[str] = set()
    for record in records.values():
        ancestor = record.parent
        while ancestor and ancestor not in run.failed:
            ancestor = records[ancestor].parent if ancestor in records else ""
        if ancestor:
            under_failed.add(record.urn)
    return under_failed | _reach(
        records, set().union(*(r.needs() for r in records.values() if r.urn in run.failed | under_failed))
    )


def _reach(records: Mapping[str, Record], start: set[str]) -> set[str]:
    """Return the URNs that lie on the way down from some, themselves included."""
    needs: dict[str, set[str]] = {}
    for record in records.values():
        needs.setdefault(record.urn, set()).update(record.needs())
    found: set[str] = set()
    pending = set(start)
    while pending:
        urn = pending.pop()
        found.add(urn)
        pending |= needs.get(urn, set()) - found
    return found


class _Deletes:
    """The graph of what is to be deleted, worked off from the leaves."""

    def __init__(self, run: Deployment, doomed: dict[str, Record], kept: set[str]) -> None:
        self._run, self._doomed, self._kept = run, doomed, kept
        keys: dict[str, set[str]] = {}
        for key, record in doomed.items():
            keys.setdefault(record.urn, set()).add(key)
        below = {key: self._ancestors(record) for key, record in doomed.items()}
        self._waits_for: dict[str, set[str]] = {key: set() for key in doomed}
        for key, record in doomed.items():
            for urn in record.needs():
                targets = set(keys.get(urn, ()))
                if urn != record.parent and urn not in below[key]:  # to need a component is to need its parts
                    targets |= {part for part, ancestors in below.items() if urn in ancestors}
                for target in targets - keys[record.urn]:
                    self._waits_for[target].add(key)

    def _ancestors(self, record: Record) -> set[str]:
        found: set[str] = set()
        while record.parent and record.parent not in found:
            found.add(record.parent)
            record = self._doomed.get(record.parent, record)
        return found

    def run(self) -> None:
        """Delete until nothing is left that may be deleted."""
        condemned = {record.urn for record in self._doomed.values()} - self._kept
        waiting, running = dict(self._waits_for), dict[Future[None], str]()
        with ThreadPoolExecutor(PARALLEL) as pool:
            while waiting or running:
                ready = [
                    key for key, before in waiting.items() if not before & (waiting.keys() | set(running.values()))
                ]
                for key in ready or ([] if running else list(waiting)):
                    del waiting[key]
                    record = self._doomed[key]
                    if record.urn in self._kept or self._run.cancelled.is_set():
                        self._keep(record)
                    else:
                        running[pool.submit(self._delete, key, record, condemned)] = key
                for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                    record = self._doomed[running.pop(future)]
                    if future.exception() is not None:
                        self._run.failed.add(record.urn)
                        self._kept |= _reach(self._run.state.records, record.needs())

    def _keep(self, record: Record) -> None:
        if not (record.delete or record.urn in self._run.failed or record.parent in self._run.failed):
            self._run.events.skip(record.urn, "something that needs it could not be changed or deleted")

    def _delete(self, key: str, record: Record, condemned: set[str]) -> None:
        _delete(self._run, record, "delete-replaced" if record.delete else "delete", condemned)
        self._run.state.commit({key: None})
