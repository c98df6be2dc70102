"""The API client against a small HTTP server: credentials, discovery, verbs, errors."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from lab.engine.providers.base import ProviderError
from lab.engine.providers.kube_client import ApiError, KubeClient, NoKind

DISCOVERY = {
    "/api": [("", "v1", [("pods", "Pod", "Namespaced"), ("namespaces", "Namespace", "Cluster")])],
    "/apis": [("apps", "v1", [("deployments", "Deployment", "Namespaced")])],
}


@dataclass
class Server:
    """Answers as an API server does and keeps what it was asked."""

    url: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)

    def kubeconfig(self, user: dict[str, Any], **context: str) -> str:
        return json.dumps(
            {
                "clusters": [{"name": "k", "cluster": {"server": self.url}}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", **context}}],
                "current-context": "c",
            }
        )


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            result.asked.append(
                {
                    "method": self.command,
                    "path": url.path,
                    "query": {key: values[0] for key, values in parse_qs(url.query).items()},
                    "body": json.loads(body) if body else None,
                    "type": self.headers.get("Content-Type"),
                    "authorization": self.headers.get("Authorization"),
                }
            )
            status, content = result.answers.get(url.path) or (200, self.discovery(url.path))
            data = (content if isinstance(content, str) else json.dumps(content)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def discovery(self, path: str) -> dict[str, Any]:
            groups = []
            for name, version, kinds in DISCOVERY.get(path, []):
                resources = [
                    {"resource": plural, "responseKind": {"kind": kind}, "scope": scope}
                    for plural, kind, scope in kinds
                ]
                groups.append({"metadata": {"name": name}, "versions": [{"version": version, "resources": resources}]})
            return {"items": groups}

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        result = Server(f"http://127.0.0.1:{listening.server_port}")
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield result
        listening.shutdown()
        thread.join()


@pytest.fixture
def client(server: Server, tmp_path: Path) -> KubeClient:
    return KubeClient(written(tmp_path, server.kubeconfig({"token": "t0ken"}, namespace="mine")), None)


def written(folder: Path, text: str) -> str:
    file = folder / "kubeconfig"
    file.write_text(text)
    return str(file)


def test_where_a_kubeconfig_leads(client: KubeClient, server: Server) -> None:
    assert (client.host, client.namespace) == (server.url, "mine")


def test_token_is_sent(client: KubeClient, server: Server) -> None:
    client.kind("v1", "Pod")
    assert {request["authorization"] for request in server.asked} == {"Bearer t0ken"}


def test_exec_plugin_gives_the_token(server: Server, tmp_path: Path) -> None:
    credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "x1"}}
    plugin = {"apiVersion": credential["apiVersion"], "command": "echo", "args": [json.dumps(credential)]}
    file = written(tmp_path, server.kubeconfig({"exec": plugin | {"interactiveMode": "Never"}}))
    KubeClient(file, "c").kind("v1", "Pod")
    assert server.asked[0]["authorization"] == "Bearer x1"


def test_ambient_kubeconfig_is_not_replaced_by_a_missing_context(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match=r"kubeconfig /.*/kubeconfig cannot be used: .*other"):
        KubeClient(written(tmp_path, server.kubeconfig({})), "other")


def test_discovery_is_asked_once_and_again_only_for_what_is_missing(client: KubeClient, server: Server) -> None:
    deployment = client.kind("apps/v1", "Deployment")
    assert deployment.url("n", "a b") == "/apis/apps/v1/namespaces/n/deployments/a%20b"
    assert client.kind("v1", "Namespace").url("ignored", "n") == "/api/v1/namespaces/n"
    assert len(server.asked) == 2
    with pytest.raises(NoKind, match=r"does not serve example\.com/v1 Thing"):
        client.kind("example.com/v1", "Thing")
    assert len(server.asked) == 4
    assert client.api_versions() == ["apps/v1", "apps/v1/Deployment", "v1", "v1/Namespace", "v1/Pod"]


def test_verbs(client: KubeClient, server: Server) -> None:
    pod = {"metadata": {"name": "p", "namespace": "n"}}
    kind = client.kind("v1", "Pod")
    server.asked.clear()
    client.apply(kind, pod, "m", dry_run=True, force=False)
    client.apply(kind, pod, "m", dry_run=False, force=True)
    client.delete(kind, "n", "p")
    client.list("v1", "Pod", "n", {"a": "b", "c": "d"})
    one, all_ = "/api/v1/namespaces/n/pods/p", "/api/v1/namespaces/n/pods"
    warn = {"fieldManager": "m", "fieldValidation": "Warn"}
    assert [(asked["method"], asked["path"], asked["query"]) for asked in server.asked] == [
        ("PATCH", one, warn | {"force": "false", "dryRun": "All"}),
        ("PATCH", one, warn | {"force": "true"}),
        ("DELETE", one, {}),
        ("GET", all_, {"labelSelector": "a=b,c=d"}),
    ]
    assert server.asked[0]["type"] == "application/apply-patch+yaml"
    assert server.asked[2]["body"] == {"propagationPolicy": "Foreground"}


def test_errors_carry_the_servers_words(client: KubeClient, server: Server) -> None:
    kind = client.kind("v1", "Pod")
    path = "/api/v1/namespaces/n/pods/p"
    server.answers[path] = (404, {"reason": "NotFound", "message": "no p"})
    assert client.get(kind, "n", "p") is None
    server.answers[path] = (403, {"reason": "Forbidden", "message": "you may not"})
    with pytest.raises(ApiError, match="you may not") as failure:
        client.get(kind, "n", "p")
    assert (failure.value.status, failure.value.reason) == (403, "Forbidden")
    server.answers[path] = (502, "<html>")
    with pytest.raises(ApiError, match="<html>"):
        client.get(kind, "n", "p")
