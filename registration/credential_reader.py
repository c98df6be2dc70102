"""Reads what `credentials` decides on: Secrets, WorkloadEntries, and whether VMs answer.

`python -m registration.credential_reader` takes a request on standard input and prints, by VM, the token that it is to
have. It asks no more than it must: where every token was used and no certificate can have run out, once per namespace.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from registration.credentials import (
    VM_LABEL,
    Holder,
    Request,
    Wanted,
    declared_need,
    name_before,
    need_if_cut_off,
    parse,
    record_of,
    settled,
    wanted,
)
from registration.ladder import Mesh, Reachability, State, climb, needs_controllers
from registration.reader import ENTRIES, ApiError, kubectl_get, reach, tcp_probe

ISTIOD_SETTLES = timedelta(minutes=1)
"""After istiod has started, its VMs come back within this time."""
_CONNECTED = {State.CONNECTED, State.REGISTERED, State.HEALTHY}

Objects = list[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the facts come from; a test hands in its own."""

    get: Callable[[str], Mapping[str, Any] | None]
    """GET of a path of the Kubernetes API; None where there is no such path, `ApiError` where there is no answer."""
    probe: Callable[[str, int], Reachability]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


def read(request: Request, sources: Sources) -> dict[str, Wanted]:
    """The token that each VM is to have, by name.

    Raises:
        ApiError: The cluster gives no answer.
    """
    sources = replace(sources, get=functools.cache(sources.get))
    now, seconds = sources.now(), request.token_seconds
    secrets, readable = _secrets(request, sources)
    if not readable:
        # Who may not read Secrets cannot mint either: a preview with few rights shows what stands there.
        return {holder.vm.name: Wanted(unread=True) for holder in request.holders}
    records = {holder.vm.name: record_of(holder.vm, secrets) for holder in request.holders}
    doubtful = [h for h in request.holders if need_if_cut_off(h, records[h.vm.name], seconds, now)]
    cut_off = _without_connection(doubtful, request, sources)
    names = [holder.vm.name for holder in request.holders]
    needs = {
        h.vm.name: declared_need(h, records[h.vm.name], seconds, now)
        or name_before(h, records[h.vm.name], secrets, names)
        for h in request.holders
    }
    lost = [h for h in cut_off if not needs[h.vm.name]]
    for holder in _answering(lost, request, sources):
        needs[holder.vm.name] = need_if_cut_off(holder, records[holder.vm.name], seconds, now)
    return {name: wanted(records[name], need) for name, need in needs.items()}


def _secrets(request: Request, sources: Sources) -> tuple[Objects, bool]:
    try:
        return _labelled(request.holders, sources), True
    except ApiError as error:
        if "(Forbidden)" in str(error):
            return [], False
        raise


def _labelled(holders: Sequence[Holder], sources: Sources) -> Objects:
    """The Secrets that are VMs' credentials: of their namespaces only, for a deployer that sees no others."""
    spaces = sorted({holder.vm.namespace for holder in holders})
    selector = quote(VM_LABEL, safe="")
    paths = [f"/api/v1/namespaces/{space}/secrets?labelSelector={selector}" for space in spaces]
    return [item for path in paths for item in _items(sources, path)]


def _without_connection(doubtful: Sequence[Holder], request: Request, sources: Sources) -> list[Holder]:
    if not doubtful:
        return []
    entries, now = tuple(_items(sources, ENTRIES)), sources.now()
    controllers = _controllers(request, sources) if needs_controllers(entries, now) else None
    mesh = Mesh(entries=entries, live_controllers=controllers)
    return [holder for holder in doubtful if climb(holder.vm, mesh, None, None, now).state not in _CONNECTED]


def _answering(lost: Sequence[Holder], request: Request, sources: Sources) -> list[Holder]:
    """Those that a token could be brought to, if istiod can be believed."""
    if not lost or not settled(_istiods(request, sources), sources.now(), ISTIOD_SETTLES):
        return []
    with ThreadPoolExecutor(max_workers=min(len(lost), 64)) as pool:
        found = list(pool.map(lambda holder: reach(holder.vm, sources.probe), lost))
    return [holder for holder, met in zip(lost, found, strict=True) if met is None or met.reachable]


def _controllers(request: Request, sources: Sources) -> frozenset[str]:
    pods = _istiods(request, sources)
    return frozenset(pod["metadata"]["name"] for pod in pods if pod.get("status", {}).get("phase") == "Running")


def _istiods(request: Request, sources: Sources) -> Objects:
    return _items(sources, f"/api/v1/namespaces/{request.istio_namespace}/pods?labelSelector=app%3Distiod")


def _items(sources: Sources, path: str) -> Objects:
    return list((sources.get(path) or {}).get("items") or ())


def main() -> int:
    """Request on standard input, wanted tokens on standard output."""
    request = parse(sys.stdin.read())
    sources = Sources(get=kubectl_get(request.kubeconfig, request.context), probe=tcp_probe)
    try:
        found = read(request, sources)
    except ApiError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps({name: asdict(token) for name, token in found.items()}, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
