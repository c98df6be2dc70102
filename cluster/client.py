"""The one client of the Kubernetes API in the program's own process: one error, one deadline, connections reused.

It stands on the official `kubernetes` library, which is released every few weeks and is the only one in Python that
logs in with every version of login plugins, their client certificates, and `proxy-url`: lightkube knows neither
version `v1` of plugins nor `proxy-url`, and kr8s costs as much to import (0.26 s) and leaves private keys in files.
Only the library's login and connections are used, not its 700 models, which it loads on demand.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import urllib3
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException

from cluster.errors import ApiError
from cluster.login import log_in

__all__ = ["ApiError", "Client"]

SECONDS = 20.0
"""How long the API may take for one request, with what it makes the program wait when it is busy."""
_BUSY = 429


class Client:
    """Reads and writes objects of a cluster by their API paths; threads may share it.

    It logs in with its first request, and once: a login that failed is not tried again.
    """

    requests: int
    """How many requests were made."""

    def __init__(self, kubeconfig: str | None, context: str | None, seconds: float = SECONDS) -> None:
        self.requests = 0
        self._kubeconfig, self._context, self._seconds = kubeconfig, context, seconds
        self._lock = threading.Lock()
        self._api: ApiClient | None = None
        self._failed: ApiError | None = None

    @classmethod
    def connect(cls, kubeconfig: str | None = None, context: str | None = None) -> Client:
        """A client of the cluster in a kubeconfig; without one, of what kubectl would take."""
        return cls(kubeconfig, context)

    def get(self, path: str) -> dict[str, Any] | None:
        """The object, or the list, at a path; None where there is no such thing, nor such a kind."""
        try:
            return _parsed(self._request("GET", path))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def get_text(self, path: str) -> str:
        """What a path answers that is no object, such as a Service behind the API's proxy."""
        return self._request("GET", path)

    def items(self, path: str, selector: str = "") -> list[dict[str, Any]]:
        """The objects in the list at a path; none where there is no such kind.

        Args:
            path: Of the list.
            selector: Labels that they must have, as `app=istiod`.
        """
        found = self.get(_selecting(path, selector)) or {}
        return list(found.get("items") or ())

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object, or ask for something that is made, such as a token."""
        return _parsed(self._request("POST", path, body))

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Merge some keys into an object; None removes one."""
        return _parsed(self._request("PATCH", path, body, "application/merge-patch+json"))

    def delete(self, path: str, selector: str = "") -> None:
        """Delete an object, or with a selector those of a list; content where there is none."""
        try:
            self._request("DELETE", _selecting(path, selector))
        except ApiError as error:
            if error.status != 404:
                raise

    def create_token(
        self, namespace: str, service_account: str, *, audience: str, seconds: int, secret: str, secret_uid: str
    ) -> str:
        """A token of a service account, bound to a Secret: deleting that Secret revokes it."""
        bound = {"apiVersion": "v1", "kind": "Secret", "name": secret, "uid": secret_uid}
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [audience], "expirationSeconds": seconds, "boundObjectRef": bound},
        }
        made = self.post(f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token", body)
        return str(made["status"]["token"])

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, content: str = "application/json"
    ) -> str:
        """What the API answers; it is asked again where it says that it is busy, and where a kept connection was dead.

        Raises:
            ApiError: There is no answer within the deadline, or it is a refusal.
        """
        api = self._logged_in()
        deadline = time.monotonic() + self._seconds
        again = method == "GET"
        while True:
            left = max(deadline - time.monotonic(), 0.1)
            with self._lock:
                self.requests += 1
                headers = {"Accept": "application/json", "User-Agent": "istio-vm-mesh"}
                if body is not None:
                    headers["Content-Type"] = content
                api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            try:
                url = api.configuration.host + path
                answer = api.call_api(method, url, header_params=headers, body=body, _request_timeout=left)
                text = str(answer.read(), "utf-8", "replace")
            except urllib3.exceptions.ProtocolError as error:
                if not again:
                    raise self._unreachable(error) from None
                again = False
                continue
            except (urllib3.exceptions.HTTPError, ApiException) as error:
                raise self._unreachable(error) from None
            wait = _seconds_to_wait(answer.headers.get("Retry-After"))
            if answer.status != _BUSY or time.monotonic() + wait > deadline:
                break
            time.sleep(wait)
        if 200 <= answer.status < 300:
            return text
        raise self._refused(answer.status, text)

    def _logged_in(self) -> ApiClient:
        with self._lock:
            if self._failed:
                raise self._failed
            if self._api is None:
                try:
                    self._api = log_in(self._kubeconfig, self._context)
                except ApiError as error:
                    self._failed = error
                    raise
            return self._api

    def _host(self) -> str:
        return str(self._api.configuration.host) if self._api else "?"

    def _unreachable(self, error: Exception) -> ApiError:
        where = f"the Kubernetes API at {self._host()}"
        if isinstance(error, urllib3.exceptions.ProxyError):
            return ApiError(
                f"{where} cannot be reached through the proxy: {_cause(error)}; check proxy-url, HTTPS_PROXY"
            )
        if isinstance(error, urllib3.exceptions.NameResolutionError):
            return ApiError(f"{where} cannot be found: no such host name; check `server` in the kubeconfig, and DNS")
        if isinstance(error, urllib3.exceptions.TimeoutError) and not isinstance(
            error, urllib3.exceptions.NewConnectionError
        ):
            return ApiError(
                f"{where} did not answer within {self._seconds:g} s; check that it is up and that no firewall is "
                "between"
            )
        untrusted = re.search(r"certificate verify failed: ([^(]+)", str(error))
        if untrusted:
            return ApiError(
                f"{where} has a certificate that the kubeconfig does not trust ({untrusted[1].strip()}); "
                "check `certificate-authority` in it"
            )
        if "refused" in str(error):
            return ApiError(f"{where} refuses connections; check that it is up, and `server` in the kubeconfig")
        return ApiError(f"{where} cannot be reached: {_cause(error)}")

    def _refused(self, status: int, text: str) -> ApiError:
        try:
            found = json.loads(text)
        except ValueError:
            found = {}
        known = found if isinstance(found, dict) else {}
        message = str(known.get("message") or text.strip() or f"HTTP {status}")
        reason = str(known.get("reason") or "")
        where = f"the Kubernetes API at {self._host()}"
        if status == 401:
            text = f"{where} does not accept the kubeconfig's login; log in again, or renew its credentials"
        elif status == 403:
            text = f"the Kubernetes API refused: {message}; give the deployer this right"
        else:
            text = f"the Kubernetes API refused: {message}"
        return ApiError(text, status=status, reason=reason)


def _parsed(text: str) -> dict[str, Any]:
    return dict(json.loads(text))


def _selecting(path: str, selector: str) -> str:
    return f"{path}?labelSelector={quote(selector, safe='')}" if selector else path


def _seconds_to_wait(header: str | None) -> float:
    return float(header) if header and header.isdecimal() else 1.0


def _cause(error: BaseException) -> str:
    """What an error began with: the library's own name its objects, too."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(getattr(error, "strerror", None) or getattr(error, "reason", None) or error).replace("\n", " ")
