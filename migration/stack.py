"""The migrations of a stack: what its settings say of them, and the steps that may be taken now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.client import ApiError, Client
from migration.decision import Refusal, Step, Wanted
from migration.reader import PILOT_AGENT, Migration, Page, Sources, on_vm, step_of
from observation.targets import targets
from settings import Problem, Settings, mesh_host
from settings.problems import join


class MigrationRefused(Exception):
    """A step is not taken; the text lists every reason, a line each."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        title = "a migration's step is not taken, and nothing has been changed:"
        super().__init__("\n".join([title, *(f"  {problem}" for problem in self.problems)]))


def steps(settings: Settings, sources: Sources) -> dict[str, Step]:
    """The step of every host whose requests move.

    Raises:
        MigrationRefused: With every reason, where one may not be taken.
    """
    found: dict[str, Step] = {}
    problems: list[Problem] = []
    for migration in migrations_of(settings):
        step = step_of(migration, sources)
        if isinstance(step, Refusal):
            path = join("traffic", migration.host, "migration", "at")
            got = migration.wanted.at
            problems += [Problem(path=path, what=r.what, got=got, right=r.right) for r in step.reasons]
        else:
            found[migration.host] = step
    if problems:
        raise MigrationRefused(problems)
    return found


def migrations_of(settings: Settings) -> list[Migration]:
    """Every host whose requests move."""
    vms = {vm.address: name for workload in settings.workloads.values() for name, vm in workload.meshed_vms.items()}
    found = []
    for host, traffic in settings.traffic.items():
        move, place = traffic.migration, mesh_host(host, settings.workloads, settings.services)
        if move is None or place is None:
            continue
        wanted = Wanted(
            source=move.source,
            target=move.to,
            at=move.at,
            step=move.step,
            min_healthy=move.min_healthy,
            max_error_rate=move.max_error_rate,
            min_requests=move.min_requests,
        )
        labels = {name: traffic.subsets[name] for name in (move.source, move.to)}
        found.append(Migration(host=host, namespace=place.namespace, wanted=wanted, labels=labels, vms=vms))
    return found


def live_sources(settings: Settings, client: Client) -> Sources:
    """The real API and the real proxies."""

    def pod(namespace: str, name: str, seconds: float) -> Page:
        try:
            return Page(text=client.exec(namespace, name, "istio-proxy", PILOT_AGENT, max(seconds, 0.1)))
        except ApiError as error:
            return Page(unread=str(error))

    def vms(names: Sequence[str], seconds: float) -> Mapping[str, Page]:
        if not names:
            return {}
        from hosts.ssh import ask  # asyncssh takes its time to import

        asked, limit = targets(settings, names), max(seconds, 0.1)
        return {
            name: Page(unread=answer.unknown)
            if answer.unknown
            else Page(text=answer.output)
            if answer.status == 0
            else Page(unread=_last(answer.errors) or f"pilot-agent ended with status {answer.status}")
            for name, answer in ask(asked, dict.fromkeys(asked, on_vm()), limit).items()
        }

    return Sources(get=client.get, pod=pod, vms=vms)


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
