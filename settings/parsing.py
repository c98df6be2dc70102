"""From plain data to checked `Settings`: the shape of each part, then the parts together, then the files they name."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from settings.checks import check
from settings.draft import draft_of
from settings.ingress import check_ingress
from settings.migration import check_migrations
from settings.models import StackConfig
from settings.namespaces import check_namespaces
from settings.problems import UNSHOWN, Problem, SettingsError
from settings.references import References
from settings.result import Settings
from settings.revisions import check_revisions
from settings.services import check_services
from settings.traffic import check_traffic
from settings.translate import problems_of
from settings.ways import check_ways


def parse(
    raw: Mapping[str, Any],
    *,
    project_dir: Path,
    sealed: frozenset[str] = frozenset(),
    found: Iterable[Problem] = (),
) -> Settings:
    """Return a stack's configuration, checked.

    Args:
        raw: The values below `istio-vm-mesh:`, as plain data.
        project_dir: The folder that relative paths start from.
        sealed: Keys that the stack keeps encrypted; no message repeats their values. `sshPrivateKey` may be sealed and
            not in `raw`: it is there, but cannot be read.
        found: Problems that the caller has found already.

    Raises:
        SettingsError: With every problem.
    """
    given = {str(key): value for key, value in raw.items() if value not in (None, "")}
    problems = [*found, *_shape(given)]
    draft = draft_of(given)
    for check_part in (
        check,
        check_ways,
        check_revisions,
        check_ingress,
        check_namespaces,
        check_services,
        check_traffic,
        check_migrations,
    ):
        problems += check_part(draft)
    references = References(project_dir)
    references.follow(draft, key_is_encrypted="sshPrivateKey" in sealed and "sshPrivateKey" not in given)
    problems += references.problems
    if problems:
        hidden = sealed | {"sshPrivateKey"}
        raise SettingsError(
            dataclasses.replace(problem, got=UNSHOWN) if problem.section in hidden else problem for problem in problems
        )
    assert draft.cluster and draft.istio and draft.east_west_gateway and draft.ingress_gateway and draft.hosts
    return Settings(
        cluster=draft.cluster,
        istio=draft.istio,
        east_west_gateway=draft.east_west_gateway,
        ingress_gateway=draft.ingress_gateway,
        hosts=draft.hosts,
        namespaces=draft.namespaces,
        services=draft.services,
        traffic=draft.traffic,
        workloads=draft.workloads,
        connections=references.connections,
        renew=frozenset(draft.renew),
        packages=references.packages,
        own_packages=references.own_packages,
        certificates=references.certificates,
    )


def _shape(given: dict[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with the parts by themselves."""
    try:
        StackConfig.model_validate(given)
    except ValidationError as error:
        yield from problems_of(error, StackConfig)
