"""Reads what `credentials` decides on: Secrets, WorkloadEntries, and whether VMs answer.

It asks no more than it must: where every token was used and no certificate can have run out, once per namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cluster.errors import ApiError
from cluster.objects import ENTRIES, Get, at_one_moment, items, live_istiods, secrets_path, selecting
from registration.credentials import (
    VM_LABEL,
    Holder,
    Wanted,
    declared_need,
    name_before,
    need_if_cut_off,
    record_of,
    refuse_former_version,
    settled,
    wanted,
)
from registration.ladder import Mesh, Reachability, State, climb, needs_controllers
from registration.reader import ISTIO_NAMESPACE, reach

ISTIOD_SETTLES = timedelta(minutes=1)
"""After istiod has started, its VMs come back within this time."""
_CONNECTED = {State.CONNECTED, State.REGISTERED, State.HEALTHY}

Objects = list[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the facts come from; a test hands in its own."""

    get: Get
    probe: Callable[[str, int], Reachability]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def read(holders: Sequence[Holder], token_seconds: int, sources: Sources) -> dict[str, Wanted]:
    """The token that each VM is to have, by name.

    Args:
        holders: All VMs that prove themselves to istiod.
        token_seconds: Life of a token.
        sources: Where the facts come from.

    Raises:
        ApiError: The cluster gives no answer.
        FormerVersion: The VMs were joined by a version that kept Secrets as resources.
    """
    sources = replace(sources, get=at_one_moment(sources.get))
    now, seconds = sources.now(), token_seconds
    try:
        secrets = _secrets(holders, sources)
    except ApiError as error:
        if error.status != 403:
            raise
        # Who may not read Secrets cannot mint either: a preview with few rights shows what stands there.
        return {holder.vm.name: Wanted(unseen=True) for holder in holders}
    refuse_former_version(secrets, [holder.vm for holder in holders])
    records = {holder.vm.name: record_of(holder.vm, secrets) for holder in holders}
    doubtful = [h for h in holders if need_if_cut_off(h, records[h.vm.name], seconds, now)]
    cut_off = _without_connection(doubtful, sources)
    names = [holder.vm.name for holder in holders]
    needs = {
        h.vm.name: declared_need(h, records[h.vm.name], seconds, now)
        or name_before(h, records[h.vm.name], secrets, names)
        for h in holders
    }
    lost = [h for h in cut_off if not needs[h.vm.name]]
    for holder in _answering(lost, sources):
        needs[holder.vm.name] = need_if_cut_off(holder, records[holder.vm.name], seconds, now)
    return {h.vm.name: wanted(h, records[h.vm.name], needs[h.vm.name], now) for h in holders}


def _secrets(holders: Sequence[Holder], sources: Sources) -> Objects:
    """The Secrets that are VMs' credentials: of their namespaces only, for a deployer that sees no others."""
    spaces = sorted({holder.vm.namespace for holder in holders})
    paths = [selecting(secrets_path(space), VM_LABEL) for space in spaces]
    return [item for path in paths for item in items(sources.get, path)]


def _without_connection(doubtful: Sequence[Holder], sources: Sources) -> list[Holder]:
    if not doubtful:
        return []
    entries, now, controllers = tuple(items(sources.get, ENTRIES)), sources.now(), None
    if needs_controllers(entries, now):
        controllers = frozenset(pod["metadata"]["name"] for pod in live_istiods(sources.get, ISTIO_NAMESPACE))
    mesh = Mesh(entries=entries, live_controllers=controllers)
    return [holder for holder in doubtful if climb(holder.vm, mesh, None, None, now).state not in _CONNECTED]


def _answering(lost: Sequence[Holder], sources: Sources) -> list[Holder]:
    """Those that a token could be brought to, if istiod can be believed."""
    if not lost or not settled(live_istiods(sources.get, ISTIO_NAMESPACE), sources.now(), ISTIOD_SETTLES):
        return []
    with ThreadPoolExecutor(max_workers=min(len(lost), 64)) as pool:
        found = list(pool.map(lambda holder: reach(holder.vm, sources.probe), lost))
    return [holder for holder, met in zip(lost, found, strict=True) if met is None or met.reachable]
