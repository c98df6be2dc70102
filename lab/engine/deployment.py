"""A run of one stack as the program drives it: what it registers, reads and calls.

One thread per registration; the SDK orders them by their dependencies. A step that fails stops what depends on it and
nothing else, as with `pulumi up --continue-on-error`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from lab.engine import urns
from lab.engine.diffs import compare
from lab.engine.display import Display
from lab.engine.model import Goal, Step, StepError, explain
from lab.engine.providers.base import Child, Context, Diff, Provider, ProviderError
from lab.engine.registry import STACK_REFERENCE, Registry, referenced_stack
from lab.engine.state import Record, State
from lab.engine.values import UNKNOWN, ResourceReference, copy_secrets, has_unknown, make_secret, strip_secrets, veil


class Deployment:
    """Everything that the registrations of one run share."""

    def __init__(
        self,
        *,
        stack: str,
        project: str,
        state: State,
        registry: Registry,
        events: Display,
        preview: bool,
    ) -> None:
        self.stack, self.project, self.preview = stack, project, preview
        self.state, self.registry, self.events = state, registry, events
        self.cancelled = threading.Event()
        self.on_cancel: Callable[[], None] = lambda: None
        """Stops the program when the run is interrupted."""
        self.seen: set[str] = set()
        """Registered in this run, so not to be deleted at its end."""
        self.failed: set[str] = set()
        """Failed or skipped in this run."""
        self.replaced: set[str] = set()
        self.adopt = frozenset(state.creating)
        self._renamed: dict[str, str] = {}
        self._lock = threading.RLock()

    def register(self, goal: Goal) -> Record | None:
        """Bring a resource to what the program wants; None where that failed or was skipped."""
        urn = goal.record.urn
        self.events.learn(goal.record.inputs)
        with self._lock:
            first = urn not in self.seen
            self.seen.add(urn)
            old = self._former(goal) if first else None

        def act() -> Record:
            if not first:
                raise ProviderError(f"two resources have the URN {urn}; give one of them another name")
            if goal.problem:
                raise ProviderError(goal.problem)
            self._may_run(goal.record)
            if goal.remote:
                return self._remote(goal, old)
            if not goal.record.custom:
                return self.component(goal.record, old)
            from lab.engine.customs import settle

            return settle(self, goal, old)

        return self._guarded(urn, act)

    def _guarded(self, urn: str, act: Callable[[], Record]) -> Record | None:
        """Do something about a resource; None, and told, if it fails, be it by a mistake in a provider."""
        try:
            return act()
        except StepError:
            pass
        except Exception as error:
            self.events.message("error", urn, explain(error))
        self.failed.add(urn)
        return None

    def _may_run(self, record: Record) -> None:
        broken = sorted(record.needs() & self.failed)
        because = ""
        if self.cancelled.is_set():
            because = "the run was interrupted"
        elif broken:
            because = f"{urns.label(broken[0])} failed or was skipped"
        elif record.custom and not self.preview and has_unknown(record.inputs):
            because = "an input comes from something that failed"
        if because:
            self.events.skip(record.urn, because)
            raise StepError(because)

    def _former(self, goal: Goal) -> Record | None:
        """Find the resource in state, under a former URN if need be, and move it to its URN of now."""
        urn, parent, records = goal.record.urn, goal.record.parent, self.state.records
        former = [*goal.aliases]
        if parent in self._renamed:
            former += [urns.inherited(name, parent, self._renamed[parent]) for name in [urn, *former]]
        match = next((name for name in [urn, *former] if name in records and name not in self.seen - {urn}), None)
        if match is None or match == urn:
            return records.get(urn)
        self._renamed[urn] = match
        old = records[match]
        changes: dict[str, Record | None] = {match: None, urn: replace(old, urn=urn)}
        for key, record in list(records.items()):
            if key != match and match in record.needs():
                changes[key] = record.renamed(match, urn)
        self.state.commit(changes)
        return old

    def component(self, record: Record, old: Record | None) -> Record:
        """Register something that is only a node of the tree."""
        diff = Diff(changed=False)
        if old is not None:
            changes = compare(old.inputs, record.inputs)
            diff = Diff(changed=bool(changes), detailed=changes)
            record = replace(record, outputs=old.outputs)
        step = Step("create" if old is None else "update" if diff.changed else "same", record.urn, old, record, diff)
        return self.note(step, record)

    def note(self, step: Step, record: Record) -> Record:
        """Record a resource about which nothing had to be done."""
        if record != self.state.records.get(record.urn):
            self.state.commit({record.urn: record})
        self.events.tell(step)
        return record

    def _remote(self, goal: Goal, old: Record | None) -> Record:
        """Register a component whose children the provider names, all of them at once as far as they allow."""
        reference, provider = self.resolve(goal)
        record = replace(goal.record, provider="")
        context = self.context(record, "create")
        children = provider.construct(record.type, goal.name, strip_secrets(record.inputs), context)
        if children is None:
            raise ProviderError(f"remote component {record.type} is not supported by the embedded engine")
        self.component(record, old)
        done = self._children(record, reference, children)
        if None in done:
            raise StepError(f"a part of {urns.label(record.urn)} failed")
        references = [ResourceReference(child.urn, child.id or UNKNOWN) for child in done if child]
        self.outputs(record.urn, {"resources": references})
        return self.state.records[record.urn]

    def _children(self, parent: Record, reference: str, children: Sequence[Child]) -> list[Record | None]:
        # Objects of different kinds may bear one name: a Service and its Deployment.
        futures: dict[tuple[str, str], Future[Record | None]] = {}

        def before(child: Child) -> list[Child]:
            return [other for other in children if other.name in child.depends_on and other is not child]

        def run(child: Child) -> Record | None:
            with self._lock:
                pass
            for other in before(child):
                futures[other.type, other.name].result()
            record = Record(
                urn=self.urn(parent.urn, child.type, child.name),
                type=child.type,
                custom=True,
                inputs=veil(child.inputs, parent.inputs),
                parent=parent.urn,
                provider=reference,
                dependencies=tuple(self.urn(parent.urn, other.type, other.name) for other in before(child)),
                retain_on_delete=parent.retain_on_delete,
                deleted_with=parent.deleted_with,
            )
            return self.register(Goal(record=record, name=child.name))

        with ThreadPoolExecutor(max(1, len(children))) as pool:
            with self._lock:  # registrations wait for it, so every future is there when the first one looks
                futures.update({(child.type, child.name): pool.submit(run, child) for child in children})
            return [futures[child.type, child.name].result() for child in children]

    def outputs(self, urn: str, outputs: dict[str, Any], *, keep: bool = False) -> None:
        """Set what a component puts out; `keep` retains what an unfinished program did not get to."""
        record = self.state.records.get(urn)
        if record is not None and urn not in self.failed:
            outputs = {**record.outputs, **outputs} if keep else outputs
            if outputs != record.outputs:
                self.state.commit({urn: replace(record, outputs=outputs)})

    def read(self, type_: str, identity: str) -> dict[str, Any]:
        """Return what a resource that something else manages puts out; raises ProviderError."""
        if type_ != STACK_REFERENCE:
            raise ProviderError(f"reading a {type_} that exists already is not supported by the embedded engine")
        return referenced_stack(self.state.folder, identity)

    def invoke(self, token: str, args: dict[str, Any], reference: str, version: str) -> dict[str, Any]:
        """Call a provider's function; raises ProviderError."""
        if token == "pulumi:pulumi:getResource":
            record = self.state.records[args["urn"]]
            return {"urn": record.urn, "id": record.id, "state": record.outputs}
        reference = reference or self._default_provider(urns.package_of(token), version)
        provider = self.registry.get(reference, self.state.records)
        return provider.invoke(token, strip_secrets(args))

    def resolve(self, goal: Goal) -> tuple[str, Provider]:
        """Return reference and provider of a resource."""
        type_, reference = goal.record.type, goal.record.provider
        if not urns.is_provider(type_):
            reference = reference or self._default_provider(urns.package_of(type_), goal.version)
        provider = self.registry.of(replace(goal.record, provider=reference), self.state.records)
        if provider is not None and not provider.supports(type_):
            raise ProviderError(f"resource type {type_} is not supported by the embedded engine")
        return reference, provider

    def _default_provider(self, package: str, version: str) -> str:
        """Return a reference to the package's default provider, which is registered on first use."""
        type_ = urns.PROVIDER_PREFIX + package
        name = "_".join(["default", *(version.split(".") if version else [])])
        stack = self.urn("", urns.STACK_TYPE, f"{self.project}-{self.stack}")
        urn = self.urn("", type_, name)
        with self._lock:
            if urn not in self.seen:
                inputs = {"version": version} if version else {}
                record = Record(urn=urn, type=type_, custom=True, inputs=inputs, parent=stack)
                self.register(Goal(record=record, name=name))
            if urn in self.failed:
                raise ProviderError(f"package {package} cannot be used: its default provider failed")
        return f"{urn}::{self.state.records[urn].id}"

    def urn(self, parent: str, type_: str, name: str) -> str:
        """Return the URN of a resource of this stack."""
        return urns.make(self.stack, self.project, parent, type_, name)

    def context(self, record: Record, action: str, *, adopt: bool = False) -> Context:
        """Return what a provider gets to know about a step."""
        return Context(
            urn=record.urn,
            preview=self.preview,
            timeout=record.custom_timeouts.get(action),
            adopt=adopt,
            report=lambda text: self.events.report(record.urn, text),
            cancelled=self.cancelled,
        )


def finished(record: Record, identity: str, outputs: Mapping[str, Any], errors: tuple[str, ...] = ()) -> Record:
    """Return the record with the outcome of a step, secrets marked."""
    marked = copy_secrets(dict(outputs), record.inputs)
    for name in record.additional_secret_outputs:
        if name in marked:
            marked[name] = make_secret(marked[name])
    return replace(record, id=identity, outputs=marked, init_errors=errors)
