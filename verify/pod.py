"""The tool: an injected pod with a server of its own, in a namespace of its own, which goes with all that is in it.

Its image is the mesh's own proxy: that has curl, iptables and Envoy, and the nodes have it already. Envoy is its
server, too, and says in a header whom its sidecar has seen as the client.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from cluster.client import ApiError, Client
from components.values import plain_revision

Value = TypeVar("Value")
NAMESPACES = "/api/v1/namespaces"
NAME = "istio-vm-mesh-verify"
"""Of the namespace, and of what is in it."""
SEEN = "x-seen-client"
"""Header of the server's answers: the client certificate's fields, as its sidecar hands them on."""
READY_SECONDS, GONE_SECONDS = 120, 90
_STAT = re.compile(
    r"cluster\.outbound\|\d+\|(?P<subset>[^|]*)\|(?P<host>[^|;:]+?);?\.(?P<stat>[a-z_.]+): (?P<count>\d+)"
)


class ToolError(Exception):
    """The tool, or what it stands on, does not work; nothing is known of the mesh."""


def server() -> dict[str, Any]:
    """Configuration of the tool's Envoy."""
    types = "type.googleapis.com/envoy.extensions.filters"
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "verify\n"}}}
    seen = {"header": {"key": SEEN, "value": "%REQ(x-forwarded-client-cert)%"}}
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "verify",
        "forward_client_cert_details": "ALWAYS_FORWARD_ONLY",
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}}
        ],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "response_headers_to_add": [seen], "routes": [answer]},
            ]
        },
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    address = {"socket_address": {"address": "0.0.0.0", "port_value": 8080}}
    return {"static_resources": {"listeners": [{"address": address, "filter_chains": [{"filters": filters}]}]}}


def manifests(image: str, revision: str, excluded: Sequence[str]) -> list[dict[str, Any]]:
    """The tool's objects.

    Args:
        image: Of the tool.
        revision: Whose istiod injects it.
        excluded: Addresses at which it talks past its sidecar when asked for them directly.
    """
    plain = plain_revision(revision)
    label = {"istio.io/rev": plain} if plain else {"istio-injection": "enabled"}
    annotations = {
        "sidecar.istio.io/statsInclusionPrefixes": "cluster.outbound",
        "proxy.istio.io/config": json.dumps({"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}}),
        "traffic.sidecar.istio.io/excludeOutboundIPRanges": ",".join(f"{address}/32" for address in excluded),
    }
    container = {
        "name": "tool",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["envoy", "--disable-hot-restart", "-l", "error", "--config-yaml", json.dumps(server())],
        "ports": [{"name": "http", "containerPort": 8080}],
        # To cut itself off from the hosts whose timeouts and retries it looks at; the node's network stays untouched.
        "securityContext": {"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}},
    }
    here = {"name": NAME, "namespace": NAME}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    service = {"selector": {"app": NAME}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAME, "labels": label}},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**here, "labels": {"app": NAME}, "annotations": annotations},
            "spec": spec,
        },
        {"apiVersion": "v1", "kind": "Service", "metadata": here, "spec": service},
    ]


@dataclass(frozen=True)
class Tool:
    """The pod, once it runs."""

    client: Client

    def run(self, script: str, seconds: float = 60) -> str:
        """What a script prints in the pod, as an application there."""
        return _asked(lambda: self.client.exec(NAME, NAME, "tool", ["sh", "-c", script], seconds))

    def proxy(self, path: str) -> str:
        """What the pod's sidecar says of itself."""
        return _asked(lambda: self.client.exec(NAME, NAME, "istio-proxy", ["pilot-agent", "request", "GET", path], 60))

    def service_port(self, namespace: str, name: str) -> int | None:
        """The first port of a Service; None where there is no such Service."""
        found = _asked(lambda: self.client.get(f"/api/v1/namespaces/{namespace}/services/{name}"))
        return int(found["spec"]["ports"][0]["port"]) if found else None

    def counts(self, host: str, stat: str) -> dict[str, int]:
        """A counter of the sidecar's about a host, by subset."""
        found: dict[str, int] = {}
        for match in _STAT.finditer(self.proxy("stats?usedonly&filter=outbound")):
            if match["host"] == host and match["stat"] == stat:
                found[match["subset"]] = found.get(match["subset"], 0) + int(match["count"])
        return found

    def endpoints(self, host: str) -> list[tuple[str, int]]:
        """Addresses and ports to which the sidecar sends what is for a host."""
        pattern = rf"^outbound\|\d+\|[^|]*\|{re.escape(host)};?::([\d.]+):(\d+)::"
        found = re.findall(pattern, self.proxy("clusters"), flags=re.MULTILINE)
        return sorted({(address, int(port)) for address, port in found})

    def connected(self, host: str) -> bool:
        """Whether the sidecar has connections to a host."""
        pattern = rf"^outbound\|\d+\|[^|]*\|{re.escape(host)};?::[\d.]+:\d+::cx_active::(\d+)$"
        return any(map(int, re.findall(pattern, self.proxy("clusters"), flags=re.MULTILINE)))

    @contextmanager
    def cut_off(self, endpoints: Sequence[tuple[str, int]], *, refused: bool) -> Iterator[None]:
        """The pod's sidecar gets no answer from some endpoints, or is refused there at once."""
        end = "REJECT --reject-with tcp-reset" if refused else "DROP"
        rules = [f"OUTPUT -p tcp -d {address} --dport {port} -j {end}" for address, port in endpoints]
        self.run(" && ".join(f"iptables -I {rule}" for rule in rules))
        try:
            yield
        finally:
            self.run("; ".join(f"iptables -D {rule}" for rule in rules))


@contextmanager
def tool(client: Client, objects: Sequence[dict[str, Any]]) -> Iterator[Tool]:
    """The pod, ready; it goes at the end, whatever happens."""
    remove(client)
    try:
        for obj in objects:
            inside = "" if obj["kind"] == "Namespace" else f"/{NAME}/{obj['kind'].lower()}s"
            _asked(partial(client.post, f"{NAMESPACES}{inside}", obj))
        _until(lambda: _is_ready(client.get(f"{NAMESPACES}/{NAME}/pods/{NAME}")), READY_SECONDS, "its pod is not ready")
        yield Tool(client)
    finally:
        remove(client)


def remove(client: Client) -> None:
    """Take the namespace away, be it of a run that was killed, and wait until it is gone."""
    _asked(lambda: client.delete(f"{NAMESPACES}/{NAME}"))
    _until(lambda: client.get(f"{NAMESPACES}/{NAME}") is None, GONE_SECONDS, "it is still there")


def _is_ready(pod: Mapping[str, Any] | None) -> bool:
    conditions = (pod or {}).get("status", {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _until(holds: Callable[[], bool], seconds: float, otherwise: str) -> None:
    end = time.monotonic() + seconds
    while not _asked(holds):
        if time.monotonic() >= end:
            raise ToolError(f"namespace {NAME}: {otherwise} after {seconds:g} s")
        time.sleep(0.5)


def _asked(ask: Callable[[], Value]) -> Value:
    try:
        return ask()
    except ApiError as error:
        raise ToolError(str(error)) from None
