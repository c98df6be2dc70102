"""A small client of the Kubernetes API for the lab's own needs: get, server-side apply, patch and watch.

The lab waits for and writes a handful of objects while it starts; a process of kubectl for each would cost more than
the work.
"""

from __future__ import annotations

import http.client
import json
import ssl
import tempfile
from base64 import b64decode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_PLURALS = {
    "ServiceAccount": "serviceaccounts",
    "ConfigMap": "configmaps",
    "Service": "services",
    "Deployment": "deployments",
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "WorkloadEntry": "workloadentries",
}


class ApiError(Exception):
    """The API server said no; the text is its own message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """Talks to one API server.

    Args:
        kubeconfig: A kubeconfig in JSON with credentials inside, as the lab writes it.
    """

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._address = urlsplit(cluster["server"]).netloc
        self._tls = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as file:  # the ssl module reads a client certificate from a file only
            file.write(b64decode(user["client-certificate-data"]) + b64decode(user["client-key-data"]))
            file.flush()
            self._tls.load_cert_chain(file.name)

    def get(self, path: str) -> dict[str, Any]:
        """Return the object or list at a path."""
        return self._json("GET", path)

    def ok(self, path: str) -> bool:
        """Return whether a path answers with success; False also when nothing listens."""
        try:
            self._read("GET", path, timeout=3)
        except (OSError, http.client.HTTPException, ApiError):
            return False
        return True

    def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Apply an object on the server's side."""
        path = f"{object_path(manifest)}?fieldManager=istio-vm-lab&force=true"
        return self._json("PATCH", path, manifest, "application/apply-patch+yaml")

    def patch(self, path: str, change: Mapping[str, Any]) -> dict[str, Any]:
        """Merge a change into the object at a path."""
        return self._json("PATCH", path, change, "application/merge-patch+json")

    def watch(self, path: str, version: str, seconds: int) -> Iterator[dict[str, Any]]:
        """Yield events of a list from a resource version on, until the server ends the watch after `seconds`."""
        query = f"{path}?watch=true&resourceVersion={version}&timeoutSeconds={seconds}&allowWatchBookmarks=true"
        connection = http.client.HTTPSConnection(self._address, context=self._tls, timeout=seconds + 10)
        try:
            connection.request("GET", query)
            response = connection.getresponse()
            if response.status >= 300:
                raise ApiError(response.status, response.read().decode(errors="replace"))
            for line in response:
                yield json.loads(line)
        finally:
            connection.close()

    def _json(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self._read(method, path, body, content_type))
        return data

    def _read(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        timeout: float = 15,
    ) -> bytes:
        connection = http.client.HTTPSConnection(self._address, context=self._tls, timeout=timeout)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": content_type})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise ApiError(response.status, _message(content))
        return content


def object_path(manifest: Mapping[str, Any]) -> str:
    """Return the API path of an object of a kind that the lab itself writes."""
    version, metadata = manifest["apiVersion"], manifest["metadata"]
    prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
    namespace = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
    return f"{prefix}{namespace}/{_PLURALS[manifest['kind']]}/{metadata['name']}"


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace")
