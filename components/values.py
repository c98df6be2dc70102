"""Helm values and the mesh configuration that istiod's chart makes of them.

Pure, so that a VM's files can be computed, and previewed, without asking a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ISTIO_NAMESPACE = "istio-system"
BASE_RELEASE = "istio-base"
NETWORK_LABEL = "topology.istio.io/network"
TRUST_DOMAIN = "cluster.local"

PROFILE_MESH_CONFIG: Mapping[str, Mapping[str, Any]] = {
    "preview": {"defaultConfig": {"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}}},
    "ambient": {
        "defaultConfig": {"proxyMetadata": {"ISTIO_META_ENABLE_HBONE": "true"}, "image": {"imageType": "distroless"}}
    },
}
"""What the chart's own profiles add to `meshConfig.defaultConfig`; the others add nothing that reaches a VM."""


def deep_merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings as one, key by key; where both have a value, `over` has it its way."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = deep_merge(below, value)
        else:
            merged[key] = value
    return merged


def plain_revision(revision: str) -> str:
    """The revision as the charts take it: `default` means the unnamed one, as for istioctl."""
    return "" if revision == "default" else revision


def suffixed(name: str, revision: str) -> str:
    """`istiod`, or `istiod-<revision>`."""
    plain = plain_revision(revision)
    return f"{name}-{plain}" if plain else name


def chart_reference(charts: str, chart: str, version: str) -> dict[str, Any]:
    """Arguments `chart`, `version` and `repository_opts` for a chart in a repository, an OCI registry or a folder."""
    if charts.startswith("oci://"):
        return {"chart": f"{charts.rstrip('/')}/{chart}", "version": version}
    if "://" in charts:
        return {"chart": chart, "version": version, "repository_opts": {"repo": charts}}
    return {"chart": f"{charts.rstrip('/')}/{chart}"}


def base_values(revision: str) -> dict[str, Any]:
    """Values of the chart `base`: the webhook that istiod itself sets to `Fail` is rendered that way at once."""
    return {"base": {"validationFailurePolicy": "Fail"}, "defaultRevision": plain_revision(revision) or "default"}


def istiod_values(
    *,
    extra: Mapping[str, Any],
    hub: str,
    tag: str,
    mesh_id: str,
    trust_domain: str,
    cluster: str,
    network: str,
    revision: str,
) -> dict[str, Any]:
    """Values of the chart `istiod`: the user's, with the program's over them."""
    own = {
        "global": {
            "hub": hub,
            "tag": tag,
            "meshID": mesh_id,
            "network": network,
            "multiCluster": {"clusterName": cluster},
        },
        "meshConfig": {"trustDomain": trust_domain},
        "base": {"validationFailurePolicy": "Fail"},
        "revision": plain_revision(revision),
    }
    return deep_merge(extra, own)


def mesh_config(values: Mapping[str, Any], namespace: str = ISTIO_NAMESPACE) -> dict[str, Any]:
    """The MeshConfig in ConfigMap `istio[-<revision>]`, key `mesh`, that istiod's chart writes for these values.

    See `templates/configmap.yaml` of the chart. Raises `ValueError` for values whose effect is not known here.
    """
    global_ = values.get("global") or {}
    proxy = global_.get("proxy") or {}
    given = values.get("meshConfig") or {}
    if proxy.get("tracer", "none") != "none":
        raise ValueError("istio.values.global.proxy.tracer is not supported; set meshConfig.defaultConfig.tracing")
    revision = values.get("revision") or ""
    default_config: dict[str, Any] = {"discoveryAddress": f"{_istiod(values, revision)}.{namespace}.svc:15012"}
    if global_.get("meshID"):
        default_config["meshId"] = global_["meshID"]
    variant = proxy.get("variant") or global_.get("variant")
    if variant:
        default_config["image"] = {"imageType": variant}
    mesh: dict[str, Any] = {
        "trustDomain": TRUST_DOMAIN,
        "rootNamespace": given.get("rootNamespace") or global_.get("istioNamespace") or ISTIO_NAMESPACE,
        "enablePrometheusMerge": True,
        "defaultConfig": default_config,
    }
    providers = _default_providers(values)
    if providers and not given.get("defaultProviders"):
        mesh["defaultProviders"] = providers
    profile = values.get("profile") or global_.get("profile") or ""
    return deep_merge(deep_merge(mesh, PROFILE_MESH_CONFIG.get(profile, {})), given)


def _istiod(values: Mapping[str, Any], revision: str) -> str:
    """The chart's name for the istiod that proxies talk to; it takes the revision literally."""
    if not (values.get("global") or {}).get("remotePilotAddress"):
        return f"istiod-{revision}" if revision else "istiod"
    remote = values.get("istiodRemote") or {}
    return "istiod-remote" if remote.get("enabled") and remote.get("enabledLocalInjectorIstiod") else "istiod"


def _default_providers(values: Mapping[str, Any]) -> dict[str, list[str]]:
    telemetry = deep_merge(
        {"enabled": True, "v2": {"enabled": True, "prometheus": {"enabled": True}, "stackdriver": {"enabled": False}}},
        values.get("telemetry") or {},
    )
    if not (telemetry["enabled"] and telemetry["v2"]["enabled"]):
        return {}
    metrics = [name for name in ("prometheus", "stackdriver") if telemetry["v2"][name]["enabled"]]
    logs = {"accessLogging": ["stackdriver"]} if telemetry["v2"]["stackdriver"]["enabled"] else {}
    return {"metrics": metrics, **logs} if metrics else {}
