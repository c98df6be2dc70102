"""What must hold for the control plane."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from settings.checks import at_path, proxy_metadata, reserved_values
from settings.draft import Draft
from settings.models import Istio
from settings.problems import Problem

ISTIOD_VALUES = {
    "_internal_defaults_do_not_set": "give the keys below it at the top level",
    "base.validationFailurePolicy": "leave it out, it is Fail",
    "global.hub": "give istio.hub",
    "global.istioNamespace": "leave it out, it is istio-system",
    "global.meshID": "give istio.meshId",
    "global.multiCluster.clusterName": "give cluster.name",
    "global.network": "give cluster.network",
    "global.proxy.tracer": "give meshConfig.defaultConfig.tracing",
    "global.tag": "give istio.tag",
    "meshConfig.trustDomain": "give istio.trustDomain",
    "revision": "give istio.revision",
}
"""Values of the chart `istiod` that the program sets, and what to do instead."""


def check_istio(draft: Draft) -> Iterator[Problem]:
    """Yield what is wrong with the control plane, as far as the stack file itself says it."""
    if draft.istio is not None:
        yield from _values(draft.istio.values, "istio", "values")


def check_values_files(istio: Istio, files: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Yield what is wrong with values that stand in files, and with all of them together.

    Args:
        istio: The control plane.
        files: What its `valuesFiles` hold, in their order; empty for one that cannot be read.
    """
    for index, (name, values) in enumerate(zip(istio.values_files, files, strict=True)):
        yield from _values(values, "istio", "valuesFiles", index, within=name)
    address = ("global", "remotePilotAddress")
    if istio.preset == "remote" and not any(at_path(values, address) for values in (*files, istio.values)):
        yield Problem(
            path="istio.preset",
            what="says that istiod is elsewhere, but not where",
            got=istio.preset,
            right="give istio.values.global.remotePilotAddress",
        )


def _values(values: Mapping[str, Any], *path: str | int, within: str = "") -> Iterator[Problem]:
    yield from reserved_values(values, ISTIOD_VALUES, *path, within=within)
    keys = ("meshConfig", "defaultConfig")
    yield from proxy_metadata(at_path(values, keys), *path, *(() if within else keys))
