"""The files that bootstrap a sidecar on a VM, equal to those of `istioctl x workload entry configure`.

They are computed here, so that a preview can show them without a cluster. Two differences are intended: ports are
sorted by name (istioctl's order is random), and a backslash is always quoted; a lab test compares the rest.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hosts import go_yaml
from hosts.go_values import json_text, shell_quote
from hosts.proto_json import apply
from hosts.proxy_config import PROXY_CONFIG

_ANNOTATION = "proxy.istio.io/config"
_CANONICAL_NAME = "service.istio.io/canonical-name"
_CANONICAL_REVISION = "service.istio.io/canonical-revision"
ISTIOD_PORT = 15012
"""Where istiod, and a gateway in front of it, takes agents; node ports lead there under numbers of their own."""
_STATUS_PORT = 15020


@dataclass(frozen=True, kw_only=True)
class SidecarFiles:
    """Contents of the files, each as it stands on the VM."""

    mesh_yaml: str
    """`/etc/istio/config/mesh`: the proxy's configuration."""
    cluster_env: str
    """`/var/lib/istio/envoy/cluster.env`: the environment of the agent and of the redirection rules."""
    hosts: str
    """The line that `/etc/hosts` needs: istiod's name at the address through which this VM reaches it."""
    root_certificate: str
    """`/etc/certs/root-cert.pem`: the mesh's root of trust, PEM."""


def sidecar_files(
    *,
    group: Mapping[str, Any],
    mesh_config: Mapping[str, Any],
    cluster_id: str,
    root_certificate: str,
    istiod_address: str,
    istiod_port: int = ISTIOD_PORT,
    revision: str = "",
    istio_namespace: str = "istio-system",
    service_ip: str | None = None,
    external_ip: str | None = None,
    capture_dns: bool = True,
    auto_register: bool = True,
) -> SidecarFiles:
    """Return the files for one VM of a WorkloadGroup.

    Args:
        group: The WorkloadGroup's manifest.
        mesh_config: The MeshConfig: what ConfigMap `istio[-<revision>]` holds under `mesh`.
        cluster_id: The cluster's name in the mesh.
        root_certificate: The mesh's root certificate, PEM.
        istiod_address: The IP address at which the VM reaches istiod or the gateway in front of it.
        istiod_port: The port at that address. Another one than istiod's own stands in mesh.yaml and cluster.env, after
            istiod's name: its certificate bears no address.
        revision: The control plane's revision; "" and "default" mean none.
        istio_namespace: The control plane's namespace.
        service_ip: The address that the VM registers, on one of its interfaces.
        external_ip: The same, where that address is not on an interface (NAT); excludes `service_ip`.
        capture_dns: Whether the sidecar answers the VM's DNS questions.
        auto_register: Whether istiod makes the WorkloadEntry when the VM connects.

    Raises:
        ValueError: An address is no IP address, or a ProxyConfig annotation is not one.
    """
    for name, address in (("istiod", istiod_address), ("service", service_ip), ("external", external_ip)):
        if address is not None and not _is_ip(address):
            raise ValueError(f"{name} address: not an IP address (got {address!r})")
    if service_ip and external_ip:
        raise ValueError("a VM registers its service IP or its external IP, not both")
    revision = "" if revision == "default" else revision
    istiod = istiod_host(istio_namespace, revision)
    at_port = f"{istiod}:{istiod_port}" if revision or istiod_port != ISTIOD_PORT else ""
    config = _proxy_config(group, _at_port(mesh_config, istiod_port), cluster_id, at_port, capture_dns, auto_register)
    environment = config["proxyMetadata"] | _environment(group, int(config.get("statusPort", 0)))
    if at_port:
        environment["CA_ADDR"] = at_port
    if service_ip or external_ip:
        environment["ISTIO_SVC_IP"] = service_ip or external_ip
    if external_ip:
        environment["REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION"] = "true"
    return SidecarFiles(
        mesh_yaml=go_yaml.dump({"defaultConfig": config}),
        cluster_env="".join(sorted(f"{key}={shell_quote(value)}\n" for key, value in environment.items())),
        hosts=f"{istiod_address} {istiod}\n",
        root_certificate=root_certificate,
    )


def secret_ttl(group: Mapping[str, Any], mesh_config: Mapping[str, Any]) -> str:
    """Return the life of the certificates that a group's VMs ask for, as a Go duration; empty for the agent's own."""
    return proxy_metadata(group, mesh_config).get("SECRET_TTL", "")


def proxy_metadata(group: Mapping[str, Any], mesh_config: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a group's proxies, but for what depends on the cluster and the VM's own settings."""
    config = _proxy_config(group, mesh_config, "", "", capture_dns=False, auto_register=False)
    metadata: dict[str, str] = config["proxyMetadata"]
    return metadata


def istiod_host(istio_namespace: str, revision: str = "") -> str:
    """Return istiod's name, which is among its certificate's: VMs must use it whatever the address is."""
    return (
        f"istiod-{revision}.{istio_namespace}.svc"
        if revision not in ("", "default")
        else f"istiod.{istio_namespace}.svc"
    )


def _at_port(mesh_config: Mapping[str, Any], port: int) -> Mapping[str, Any]:
    """Return the MeshConfig with istiod at another port than its own, if it is; the host name stays."""
    config = _mapping(mesh_config.get("defaultConfig"))
    host, colon, _ = str(config.get("discoveryAddress") or "").rpartition(":")
    if port == ISTIOD_PORT or not colon:
        return mesh_config
    return {**mesh_config, "defaultConfig": {**config, "discoveryAddress": f"{host}:{port}"}}


def _proxy_config(
    group: Mapping[str, Any],
    mesh_config: Mapping[str, Any],
    cluster_id: str,
    discovery_address: str,
    capture_dns: bool,
    auto_register: bool,
) -> dict[str, Any]:
    """Return the ProxyConfig of mesh.yaml: the mesh's, then the group's annotations, probe and identity."""
    spec = _mapping(group.get("spec"))
    config = apply(PROXY_CONFIG, {}, _mapping(mesh_config.get("defaultConfig")), "defaultConfig")
    if discovery_address and not config.get("discoveryAddress"):
        config["discoveryAddress"] = discovery_address
    metadata: dict[str, str] = dict(config.get("proxyMetadata", {}))
    for where, holder in (
        ("metadata", _mapping(group.get("metadata"))),
        ("spec.metadata", _mapping(spec.get("metadata"))),
    ):
        annotation = _mapping(holder.get("annotations")).get(_ANNOTATION)
        if annotation is not None:
            path = f"{where}.annotations[{_ANNOTATION}]"
            config = apply(PROXY_CONFIG, config, _yaml(annotation, path), path)
            metadata |= config.get("proxyMetadata", {})
    config.pop("readinessProbe", None)
    if spec.get("probe") is not None:
        config = apply(PROXY_CONFIG, config, {"readinessProbe": spec["probe"]}, "spec")
    trust_domain = str(mesh_config.get("trustDomain") or "")
    metadata |= _identity(group, cluster_id, config.get("meshId", ""), trust_domain)
    if capture_dns:
        metadata["ISTIO_META_DNS_CAPTURE"] = "true"
    if auto_register:
        metadata["ISTIO_META_AUTO_REGISTER_GROUP"] = group["metadata"]["name"]
    return config | {"proxyMetadata": metadata}


def canonical_labels(group: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels of a group's WorkloadEntries, with those that name the application for Istio."""
    labels = {
        **_mapping(_mapping(_mapping(group.get("spec")).get("metadata")).get("labels")),
        **_mapping(_template(group).get("labels")),
    }
    name = group["metadata"]["name"]
    service = _first(labels, _CANONICAL_NAME, "app.kubernetes.io/name", "app", default=name)
    version = _first(labels, _CANONICAL_REVISION, "app.kubernetes.io/version", "version", default="latest")
    return labels | {_CANONICAL_NAME: service, _CANONICAL_REVISION: version}


def _identity(group: Mapping[str, Any], cluster_id: str, mesh_id: str, trust_domain: str) -> dict[str, str]:
    """Return the metadata by which the proxy tells istiod who it is."""
    name, template = group["metadata"]["name"], _template(group)
    labels = canonical_labels(group)
    ports = [{"name": port, "containerPort": number, "protocol": ""} for port, number in _ports(group)]
    return {
        "CANONICAL_SERVICE": labels[_CANONICAL_NAME],
        "CANONICAL_REVISION": labels[_CANONICAL_REVISION],
        "POD_NAMESPACE": _namespace(group),
        "SERVICE_ACCOUNT": template.get("serviceAccount") or "default",
        "TRUST_DOMAIN": trust_domain,
        "ISTIO_META_CLUSTER_ID": cluster_id,
        "ISTIO_META_MESH_ID": mesh_id,
        "ISTIO_META_NETWORK": template.get("network") or "",
        "ISTIO_META_WORKLOAD_NAME": name,
        "ISTIO_METAJSON_LABELS": json_text(dict(sorted(labels.items()))),
        **({"ISTIO_META_POD_PORTS": json_text(ports)} if ports else {}),
    }


def _environment(group: Mapping[str, Any], status_port: int) -> dict[str, str]:
    """Return what cluster.env holds besides the proxy's metadata."""
    # 22: never lock out ssh. 15090 and 15021: metrics and readiness of the sidecar itself, as is its status port.
    excluded = [22, 15090, 15021]
    if status_port not in excluded[1:]:
        excluded.append(status_port or _STATUS_PORT)
    return {
        "ISTIO_INBOUND_PORTS": ",".join(str(number) for _, number in _ports(group)) or "*",
        "ISTIO_LOCAL_EXCLUDE_PORTS": ",".join(map(str, excluded)),
        "ISTIO_NAMESPACE": _namespace(group),
        "ISTIO_SERVICE": f"{group['metadata']['name']}.{_namespace(group)}",
        "ISTIO_SERVICE_CIDR": "*",
        "SERVICE_ACCOUNT": _template(group).get("serviceAccount") or "default",
    }


def _ports(group: Mapping[str, Any]) -> list[tuple[str, int]]:
    return sorted((str(name), int(number)) for name, number in _mapping(_template(group).get("ports")).items())


def _template(group: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(_mapping(group.get("spec")).get("template"))


def _namespace(group: Mapping[str, Any]) -> str:
    return str(group["metadata"].get("namespace") or "")


def _first(labels: Mapping[str, str], *keys: str, default: str) -> str:
    return next((labels[key] for key in keys if key in labels), default)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _yaml(text: str, path: str) -> Mapping[str, Any]:
    try:
        value = go_yaml.load(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f"{path}: not a mapping (got {text!r})")
    return value or {}
