"""Named sets of chart values: what a stack starts from, before its own values.

Pure data. `PRESETS[name]` has the values of each chart; the stack's `valuesFiles`, then its `values`, then what the
program sets lie over them, in this order.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from components.values import deep_merge


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Values of a preset, chart by chart."""

    istiod: Mapping[str, Any] = field(default_factory=dict)
    """Of the chart `istiod`."""
    gateway: Mapping[str, Any] = field(default_factory=dict)
    """Of every chart `gateway`."""


_SMALL_PROXY = {"requests": {"cpu": "10m", "memory": "40Mi"}}

PRESETS: Mapping[str, Preset] = {
    "default": Preset(),
    "minimal": Preset(
        istiod={
            "autoscaleEnabled": False,
            "replicaCount": 1,
            "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}},
            "global": {"proxy": {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}},
        },
        gateway={
            "autoscaling": {"enabled": False},
            "replicaCount": 1,
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
        },
    ),
    # What the chart's profile of this name says besides `istiodRemote`, and that this cluster holds the configuration
    # of the istiod elsewhere: that is where VMs' WorkloadGroups are.
    "remote": Preset(
        istiod={
            "profile": "remote",
            "configMap": True,
            "telemetry": {"enabled": False},
            "global": {"configCluster": True},
        },
    ),
    # For a proxy of Envoy's core build, which lacks Istio's own extensions.
    "lab": Preset(
        istiod={
            "autoscaleEnabled": False,
            "global": {"imagePullPolicy": "IfNotPresent", "proxy": {"resources": _SMALL_PROXY}},
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
            "telemetry": {"enabled": False},
            # Without Istio's own statistics, these are what a migration is judged by.
            "meshConfig": {"defaultConfig": {"proxyStatsMatcher": {"inclusionPrefixes": ["cluster.inbound"]}}},
            "env": {
                "PILOT_ENABLE_METADATA_EXCHANGE": "false",
                "PILOT_ENABLE_ALPN_FILTER": "false",
                "PILOT_DISABLE_MX_ALPN": "true",
            },
        },
        gateway={
            "autoscaling": {"enabled": False},
            "imagePullPolicy": "IfNotPresent",
            "resources": _SMALL_PROXY,
        },
    ),
}


def istiod_preset(name: str, *, cluster: str, network: str) -> Mapping[str, Any]:
    """Values of the chart `istiod` of a preset, for a cluster.

    The istiod elsewhere is told by the webhook's path whose pod it injects: see `mutatingwebhook.yaml` of the chart.
    """
    if name != "remote":
        return PRESETS[name].istiod
    path = {"istiodRemote": {"injectionPath": f"/inject/cluster/{cluster}/net/{network}"}}
    return deep_merge(PRESETS[name].istiod, path)


def layered(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Values as one, each layer over those before it."""
    return functools.reduce(deep_merge, layers, {})
