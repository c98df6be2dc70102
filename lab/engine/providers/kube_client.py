"""Talks to one API server: kubeconfig, discovery, and the few verbs that the Kubernetes provider needs, on plain dicts.

The official client reads the kubeconfig (tokens, client certificates, exec plugins) and opens the connections; its
typed models are left alone, because resources here can be of any kind.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import urllib3
import yaml

from lab.engine.providers.base import ProviderError

Object = dict[str, Any]
_DISCOVERY: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_APPLY: Final = "application/apply-patch+yaml"
_CONNECTIONS: Final = 64
_TIMEOUT: Final = urllib3.Timeout(connect=10, read=60)


class ApiError(ProviderError):
    """The API server said no."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        """The Status object's machine-readable reason, such as AlreadyExists."""


class Unreachable(ProviderError):
    """No answer from the API server."""


class NoKind(Exception):
    """The API server does not serve this kind (its CustomResourceDefinition may not be there yet)."""


@dataclass(frozen=True)
class Kind:
    """Where the objects of a kind are found."""

    path: str
    """Such as /apis/apps/v1."""
    plural: str
    namespaced: bool

    def url(self, namespace: str | None, name: str = "") -> str:
        """Return the path of an object, or of the collection where there is no name."""
        within = f"/namespaces/{quote(namespace)}" if self.namespaced and namespace else ""
        return f"{self.path}{within}/{self.plural}" + (f"/{quote(name, safe='')}" if name else "")


class KubeClient:
    """One cluster as one user. Safe to use from many threads.

    Args:
        kubeconfig: A path; None for the ambient one ($KUBECONFIG, ~/.kube/config).
        context: Which of its contexts; None for the current one.

    Raises:
        ProviderError: The kubeconfig cannot be used.
    """

    def __init__(self, kubeconfig: str | None, context: str | None) -> None:
        from kubernetes import client, config  # slow to import, and commands need none of it

        self.context = context
        self.kubeconfig = str(Path(kubeconfig).expanduser()) if kubeconfig else None
        configuration = client.Configuration()
        configuration.connection_pool_maxsize = _CONNECTIONS
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # a retry is no news
        try:
            config.load_kube_config(self.kubeconfig, context, configuration)
            contexts, active = config.list_kube_config_contexts(self.kubeconfig)
        except (config.ConfigException, OSError, yaml.YAMLError) as error:
            raise ProviderError(f"kubeconfig {self.kubeconfig or '(ambient)'} cannot be used: {error}") from None
        chosen = next((item for item in contexts if item["name"] == context), active)
        self.namespace: str = chosen.get("context", {}).get("namespace") or "default"
        self._configuration = configuration
        self._pool = client.ApiClient(configuration).rest_client.pool_manager
        self._kinds: dict[tuple[str, str], Kind] | None = None
        self._lock = threading.Lock()

    @property
    def host(self) -> str:
        """Return the API server's address."""
        return str(self._configuration.host)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Object:
        """Send one request and return the JSON answer.

        Raises:
            ApiError: The answer was an error.
            Unreachable: There was none.
        """
        headers = {"Accept": accept, "Content-Type": content_type, "User-Agent": "istio-vm-mesh-lab"}
        for setting in self._configuration.auth_settings().values():
            headers[setting["key"]] = setting["value"]
        url = self.host.rstrip("/") + path + ("?" + urlencode(query) if query else "")
        retries = urllib3.Retry(connect=0, read=2 if method == "GET" else 0, redirect=0, other=0)
        data = None if body is None else json.dumps(body)
        try:
            response = self._pool.request(method, url, body=data, headers=headers, timeout=_TIMEOUT, retries=retries)
        except urllib3.exceptions.HTTPError as error:
            cause = getattr(error, "reason", None) or error
            used = self.kubeconfig or "the ambient kubeconfig"
            raise Unreachable(f"cluster unreachable at {self.host}: {cause}; is it running, is {used} right?") from None
        text = response.data.decode(errors="replace")
        if response.status >= 400:
            raise _error(response.status, text)
        answer: Object = json.loads(text)
        return answer

    def kind(self, api_version: str, kind: str) -> Kind:
        """Look a kind up, afresh where it is not among those known.

        Raises:
            NoKind: The server does not have it.
        """
        with self._lock:
            if self._kinds is None or (api_version, kind) not in self._kinds:
                self._kinds = self._discover()
            try:
                return self._kinds[api_version, kind]
            except KeyError:
                raise NoKind(f"the API server at {self.host} does not serve {api_version} {kind}") from None

    def api_versions(self) -> list[str]:
        """Return what Helm calls API versions: v1, apps/v1, apps/v1/Deployment ..."""
        with self._lock:
            self._kinds = self._discover()
            return sorted({text for version, kind in self._kinds for text in (version, f"{version}/{kind}")})

    def _discover(self) -> dict[tuple[str, str], Kind]:
        kinds: dict[tuple[str, str], Kind] = {}
        for root in ("/api", "/apis"):
            for group in self.request("GET", root, accept=_DISCOVERY).get("items", []):
                name = group.get("metadata", {}).get("name", "")
                for version in group.get("versions", []):
                    api_version = f"{name}/{version['version']}" if name else version["version"]
                    for resource in version.get("resources", []):
                        kind = (resource.get("responseKind") or {}).get("kind", "")
                        kinds[api_version, kind] = Kind(
                            f"{root}/{api_version}", resource["resource"], resource.get("scope") == "Namespaced"
                        )
        return kinds

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object | None:
        """Return the object, or None where there is none."""
        try:
            return self.request("GET", kind.url(namespace, name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, api_version: str, kind: str, namespace: str | None, labels: Mapping[str, str]) -> list[Object]:
        """Return the objects that have these labels."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self.request("GET", self.kind(api_version, kind).url(namespace), query={"labelSelector": selector})
        items: list[Object] = found.get("items", [])
        return items

    def apply(self, kind: Kind, obj: Object, manager: str, *, dry_run: bool, force: bool) -> Object:
        """Apply on the server's side: fields that this manager no longer names go away."""
        query = {"fieldManager": manager, "force": str(force).lower(), "fieldValidation": "Warn"}
        query |= {"dryRun": "All"} if dry_run else {}
        meta = obj["metadata"]
        url = kind.url(meta.get("namespace"), meta["name"])
        return self.request("PATCH", url, query=query, body=obj, content_type=_APPLY)

    def delete(self, kind: Kind, namespace: str | None, name: str) -> None:
        """Ask for the deletion of an object and what it owns; raises ApiError 404 where there is none."""
        self.request("DELETE", kind.url(namespace, name), body={"propagationPolicy": "Foreground"})


def _error(status: int, text: str) -> ApiError:
    try:
        answer = json.loads(text)
        return ApiError(status, str(answer.get("reason", "")), str(answer.get("message", text)))
    except (ValueError, AttributeError):
        return ApiError(status, "", text or f"HTTP {status}")
