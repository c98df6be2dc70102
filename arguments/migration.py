"""What a TrafficPolicy gets of a migration: its step's weights, and the record of it."""

import pulumi

from cluster.client import Client
from migration.decision import Step
from migration.in_force import ANNOTATION, dump
from migration.stack import MigrationRefused, live_sources, steps
from settings import HostTraffic, Settings
from settings.traffic_models import WeightedDestination


def migration_steps(stack: Settings, client: Client) -> dict[str, Step]:
    """The step of every host whose requests move.

    Raises:
        pulumi.RunError: With every reason, where one may not be taken.
    """
    try:
        return steps(stack, live_sources(stack, client))
    except MigrationRefused as refused:
        raise pulumi.RunError(str(refused)) from None


def moved(traffic: HostTraffic, step: Step | None) -> HostTraffic:
    """The rules with the routes of a migration's step."""
    if step is None:
        return traffic
    routes = [WeightedDestination(subset=subset, weight=weight) for subset, weight in step.weights.items()]
    return traffic.model_copy(update={"routes": routes})


def annotations(step: Step | None) -> dict[str, str]:
    """A step that changes nothing keeps its record; what another one is judged by goes on until it is taken."""
    preview = pulumi.runtime.is_dry_run()
    return {} if step is None else {ANNOTATION: dump(step.record, preview=preview and step.taken)}
