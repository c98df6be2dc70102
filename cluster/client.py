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
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from kubernetes.stream.ws_client import websocket_call

from cluster.deadline import within
from cluster.errors import ApiError
from cluster.login import log_in
from cluster.objects import selecting

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

    def get(self, path: str, seconds: float | None = None) -> dict[str, Any] | None:
        """The object, or the list, at a path; None where there is no such thing, nor such a kind.

        Args:
            path: With its query, if any.
            seconds: How long the answer may take, if less than usual.
        """
        try:
            return _parsed(self._request("GET", path, seconds=seconds))
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
        found = self.get(selecting(path, selector)) or {}
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
            self._request("DELETE", selecting(path, selector))
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

    def exec(
        self, namespace: str, pod: str, container: str, command: Sequence[str], seconds: float | None = None
    ) -> str:
        """What a command prints that runs in a pod's container.

        Raises:
            ApiError: It cannot be run, fails, or does not end in time; the message has what it says of that.
        """
        api, limit = self._logged_in(), self._seconds if seconds is None else seconds
        where = f"pod {namespace}/{pod}"
        query = [("command", part) for part in command] + [("container", container), ("stdout", "1"), ("stderr", "1")]
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/exec"
        headers: dict[str, str] = {}
        self._sign(api, headers, path, "GET", None)

        def run() -> tuple[str, str, int]:
            url = f"{api.configuration.host}{path}?{urlencode(query)}"
            stream = websocket_call(api.configuration, "GET", url, headers=headers, _preload_content=False)
            try:
                stream.run_forever(timeout=limit)
                if stream.is_open():
                    raise TimeoutError
                return stream.read_stdout(), stream.read_stderr(), stream.returncode
            finally:
                stream.sock.shutdown()

        try:
            # The stream ends itself in time; a connection that cannot be made does not.
            output, errors, status = within(limit + 1, run)
        except TimeoutError:
            raise ApiError(f"{where}: {command[0]} did not end within {limit:.3g} s") from None
        except ApiException as error:
            raise ApiError(
                f"the Kubernetes API cannot run a command in {where}: {_refusal(str(error.reason))}"
            ) from None
        if status:
            raise ApiError(f"{where}: {_last_line(errors) or f'{command[0]} ended with status {status}'}")
        return output

    def _sign(self, api: ApiClient, headers: dict[str, str], path: str, method: str, body: object) -> None:
        """Count a request, and let it say who makes it; a login that has run out is renewed before."""
        with self._lock:
            self.requests += 1
            try:
                api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
            except (ConfigException, OSError) as error:
                raise ApiError(f"the Kubernetes API cannot be logged in to any more: {error}; log in again") from None

    def _request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content: str = "application/json",
        seconds: float | None = None,
    ) -> str:
        """What the API answers; it is asked again where it says that it is busy, and where a kept connection was dead.

        Raises:
            ApiError: There is no answer within the deadline, or it is a refusal.
        """
        api = self._logged_in()
        limit = self._seconds if seconds is None else max(seconds, 0.1)
        deadline = time.monotonic() + limit
        again = method == "GET"
        while True:
            left = max(deadline - time.monotonic(), 0.1)
            headers = {"Accept": "application/json", "User-Agent": "istio-vm-mesh"}
            if body is not None:
                headers["Content-Type"] = content
            self._sign(api, headers, path, method, body)
            try:
                url = api.configuration.host + path
                answer = api.call_api(method, url, header_params=headers, body=body, _request_timeout=left)
                text = str(answer.read(), "utf-8", "replace")
            except urllib3.exceptions.ProtocolError as error:
                if not again:
                    raise self._unreachable(error, limit) from None
                again = False
                continue
            except (urllib3.exceptions.HTTPError, ApiException) as error:
                raise self._unreachable(error, limit) from None
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

    def _unreachable(self, error: Exception, limit: float) -> ApiError:
        where = f"the Kubernetes API at {self._host()}"
        if isinstance(error, urllib3.exceptions.ProxyError) or "SOCKS" in str(error):
            return ApiError(
                f"{where} cannot be reached through the proxy: {_cause(error)}; check proxy-url, HTTPS_PROXY"
            )
        if isinstance(error, urllib3.exceptions.NameResolutionError):
            return ApiError(f"{where} cannot be found: no such host name; check `server` in the kubeconfig, and DNS")
        if isinstance(error, urllib3.exceptions.TimeoutError) and not isinstance(
            error, urllib3.exceptions.NewConnectionError
        ):
            return ApiError(
                f"{where} did not answer within {limit:.3g} s; check that it is up and that no firewall is between"
            )
        untrusted = re.search(r"certificate verify failed: ([^(]+)", str(error))
        if untrusted:
            return ApiError(
                f"{where} has a certificate that the kubeconfig does not trust ({untrusted[1].strip(' .')}); "
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


def _seconds_to_wait(header: str | None) -> float:
    return float(header) if header and header.isdecimal() else 1.0


def _cause(error: BaseException) -> str:
    """What an error began with: the library's own name its objects, too."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(getattr(error, "strerror", None) or getattr(error, "reason", None) or error).replace("\n", " ")


def _refusal(text: str) -> str:
    """What the API says where it refuses a stream: the library puts the answer's head and body into one line."""
    status, *_, body = text.split(" -+-+- ", 2)
    try:
        return str(json.loads(body)["message"])
    except (ValueError, TypeError, KeyError):
        return status


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
