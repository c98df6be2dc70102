"""What istiod writes into the WorkloadEntry of a VM that registers itself, from the files that the VM gets.

istiod takes most of it from the proxy's word, so this is also what a VM that was changed by hand would say otherwise
(`workloadEntryFromGroup` in Istio's `pilot/pkg/autoregistration/controller.go`, `GetNodeMetaData` in `pkg/bootstrap`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hosts.sidecar_files import proxy_metadata

PLATFORM = "CLOUD_PLATFORM"
"""Variable of the agent: the cloud whose metadata service it asks for a locality and labels. `none` for no cloud;
without it the agent tries all that it knows."""
TUNNEL = "networking.istio.io/tunnel"
"""Label of an entry whose VM takes HBONE; istiod adds it where ambient mode is on."""
LOCALITY_LABELS = ("topology.istio.io/locality", "istio-locality")
"""Labels that name a VM's locality, the first that is there wins, as for Istio."""


@dataclass(frozen=True, kw_only=True)
class RegisteredEntry:
    """The part of a WorkloadEntry's spec that comes from the VM's own word, and its service account."""

    labels: Mapping[str, str]
    """TLS mode among them: `security.istio.io/tlsMode`."""
    optional_labels: Mapping[str, str] = field(default_factory=dict)
    """Those that istiod adds or not, by switches of its own."""
    network: str
    service_account: str
    locality: str | None
    """`region/zone/subzone`; None where the VM takes it from its cloud, so that nobody knows it before."""


def registered_entry(group: Mapping[str, Any], mesh_config: Mapping[str, Any]) -> RegisteredEntry:
    """Return what a VM registers with.

    Args:
        group: The WorkloadGroup's manifest, as the VM sees it.
        mesh_config: The MeshConfig that its files are made from.
    """
    metadata, template = proxy_metadata(group, mesh_config), group["spec"]["template"]
    labels: dict[str, str] = json.loads(metadata["ISTIO_METAJSON_LABELS"])
    locality = next((labels[key] for key in LOCALITY_LABELS if key in labels), "")
    tunnels = metadata.get("ISTIO_META_ENABLE_HBONE", "").lower() in ("true", "1") and TUNNEL not in labels
    return RegisteredEntry(
        # istiod moves this one into the entry's locality.
        labels={key: value for key, value in labels.items() if key != LOCALITY_LABELS[1]},
        optional_labels={TUNNEL: "http"} if tunnels else {},
        network=metadata["ISTIO_META_NETWORK"] or template.get("network", ""),
        service_account=template.get("serviceAccount", ""),
        locality=_locality(locality) if locality or metadata.get(PLATFORM, "").lower() == "none" else None,
    )


def without_cloud(mesh_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the MeshConfig by which VMs ask no cloud who they are, unless it names the cloud itself.

    What a cloud's metadata service says would be nobody's declaration: it would register as undeclared.
    """
    config = mesh_config.get("defaultConfig") or {}
    metadata = {PLATFORM: "none", **(config.get("proxyMetadata") or {})}
    return {**mesh_config, "defaultConfig": {**config, "proxyMetadata": metadata}}


def _locality(label: str) -> str:
    """Return a locality as istiod writes it: a label's dots are slashes, and nothing follows an empty zone."""
    region, zone, subzone = [*(label if "/" in label else label.replace(".", "/")).split("/"), "", ""][:3]
    return "/".join([region, *([zone, *([subzone] if subzone else [])] if zone else [])])
