"""The client against a real HTTPS server: what it sends, how it logs in, and the exact words of each failure."""

from __future__ import annotations

import base64
import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from api_server import TOKEN, Answer, Api, Frames, refusal, serving
from tls import Authority

from cluster.client import ApiError, Client
from cluster.login import log_in

PODS = "/api/v1/pods"
EMPTY = {"kind": "PodList", "items": []}
POD = {"kind": "Pod", "metadata": {"name": "a"}}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with serving(tmp_path) as running:
        running.answer(PODS, EMPTY)
        yield running


@pytest.fixture
def client(api: Api) -> Client:
    return Client.connect(api.kubeconfig({"token": TOKEN}))


def plugin(folder: Path, script: str) -> str:
    path = folder / "login-plugin"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def exec_user(command: str, **more: object) -> dict[str, object]:
    version = "client.authentication.k8s.io/v1"
    return {"exec": {"apiVersion": version, "command": command, "interactiveMode": "Never", **more}}


def credential(status: dict[str, str]) -> str:
    found = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    return f"cat <<'END'\n{json.dumps(found)}\nEND"


def failure(client: Client, path: str = PODS) -> str:
    with pytest.raises(ApiError) as caught:
        client.get(path)
    return str(caught.value)


def test_reads_an_object_and_none_where_there_is_none(api: Api, client: Client) -> None:
    api.answer("/api/v1/pods/a", POD)
    assert client.get("/api/v1/pods/a") == POD
    assert client.get("/api/v1/pods/b") is None
    assert api.seen[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_lists_by_labels(api: Api, client: Client) -> None:
    api.answer(f"{PODS}?labelSelector=app%3Distiod%2Ctier", {"items": [POD]})
    assert client.items(PODS, "app=istiod,tier") == [POD]
    assert client.items("/apis/no.such/v1/kinds") == []


def test_reads_what_is_no_object(api: Api, client: Client) -> None:
    api.answer("/proxy/version", "1.31.1-abc-Clean")
    assert client.get_text("/proxy/version") == "1.31.1-abc-Clean"


def test_writes(api: Api, client: Client) -> None:
    api.answer("/api/v1/pods/a", POD)
    api.answer(f"{PODS}?labelSelector=app%3Da", {})
    assert client.post(PODS, POD) == EMPTY
    assert client.patch("/api/v1/pods/a", {"metadata": {"labels": {"x": None}}}) == POD
    client.delete("/api/v1/pods/a")
    client.delete("/api/v1/pods/gone")
    client.delete(PODS, "app=a")
    sent = [(one.method, one.path, one.headers.get("content-type"), one.body) for one in api.seen]
    assert sent == [
        ("POST", PODS, "application/json", POD),
        ("PATCH", "/api/v1/pods/a", "application/merge-patch+json", {"metadata": {"labels": {"x": None}}}),
        ("DELETE", "/api/v1/pods/a", None, None),
        ("DELETE", "/api/v1/pods/gone", None, None),
        ("DELETE", f"{PODS}?labelSelector=app%3Da", None, None),
    ]


def test_mints_a_token_that_is_bound_to_a_secret(api: Api, client: Client) -> None:
    path = "/api/v1/namespaces/vms/serviceaccounts/shop/token"
    api.answer(path, {"status": {"token": "minted"}}, 201)
    token = client.create_token("vms", "shop", audience="istio-ca", seconds=3600, secret="a-1", secret_uid="uid")
    assert token == "minted"
    assert api.seen[0].body["spec"] == {
        "audiences": ["istio-ca"],
        "expirationSeconds": 3600,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "a-1", "uid": "uid"},
    }


def test_reuses_connections_and_counts_requests(api: Api, client: Client) -> None:
    for _ in range(5):
        client.get(PODS)
    assert len({one.connection for one in api.seen}) == 1
    assert client.requests == 5


def test_threads_share_it(api: Api, client: Client) -> None:
    with ThreadPoolExecutor(max_workers=16) as pool:
        found = list(pool.map(client.get, [PODS] * 64))
    assert found == [EMPTY] * 64
    assert client.requests == 64
    assert len({one.connection for one in api.seen}) <= 16


def test_takes_the_context_that_is_named(api: Api) -> None:
    assert Client.connect(api.kubeconfig({"token": TOKEN}), "other").get(PODS) == EMPTY


def test_takes_the_ambient_kubeconfig(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(api.kubeconfig({"token": TOKEN}))
    monkeypatch.setenv("KUBECONFIG", f"/nowhere/config{os.pathsep}{path}")
    assert Client.connect().get(PODS) == EMPTY
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(path.parent))
    (path.parent / ".kube").mkdir()
    config = path.rename(path.parent / ".kube" / "config")
    config.write_text(config.read_text().replace("ca.crt", "../ca.crt"))
    assert Client.connect().get(PODS) == EMPTY
    assert Client.connect("~/.kube/config").get(PODS) == EMPTY


def test_logs_in_with_a_client_certificate(api: Api) -> None:
    certificate, key = api.authority.issue("user", "somebody")
    files = {"client-certificate": certificate.name, "client-key": key.name}
    data = {f"{name}-data": base64.b64encode(path.read_bytes()).decode() for name, path in
            (("client-certificate", certificate), ("client-key", key))}  # fmt: skip
    for user in (files, data):
        assert Client.connect(api.kubeconfig(user)).get(PODS) == EMPTY
    assert [one.subject for one in api.seen] == ["somebody", "somebody"]


def test_logs_in_with_a_token_file(api: Api) -> None:
    (api.authority.folder / "token").write_text(TOKEN)
    assert Client.connect(api.kubeconfig({"tokenFile": str(api.authority.folder / "token")})).get(PODS) == EMPTY
    assert api.seen[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_logs_in_with_a_plugin_s_token_once(api: Api, tmp_path: Path) -> None:
    script = f'echo "$KUBERNETES_EXEC_INFO $MORE $1" >> {tmp_path}/runs\n' + credential({"token": "from-plugin"})
    user = exec_user(plugin(tmp_path, script), args=["get-token"], env=[{"name": "MORE", "value": "more"}])
    client = Client.connect(api.kubeconfig(user))
    client.get(PODS)
    client.get(PODS)
    assert {one.headers["authorization"] for one in api.seen} == {"Bearer from-plugin"}
    run = (tmp_path / "runs").read_text().splitlines()
    assert len(run) == 1
    assert run[0].endswith(" more get-token")
    assert '"kind": "ExecCredential"' in run[0]


def test_logs_in_with_a_plugin_s_certificate(api: Api, tmp_path: Path) -> None:
    certificate, key = api.authority.issue("user", "by-plugin")
    status = {"clientCertificateData": certificate.read_text(), "clientKeyData": key.read_text()}
    assert Client.connect(api.kubeconfig(exec_user(plugin(tmp_path, credential(status))))).get(PODS) == EMPTY
    assert api.seen[0].subject == "by-plugin"


@pytest.mark.parametrize("by", ["proxy-url", "HTTPS_PROXY"])
def test_goes_through_a_proxy(api: Api, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    monkeypatch.setenv("NO_PROXY", "localhost" if by == "proxy-url" else "")
    with tunnel(api.port) as (port, asked):
        proxy = f"http://127.0.0.1:{port}"
        if by == "HTTPS_PROXY":
            monkeypatch.setenv("HTTPS_PROXY", proxy)
        client = Client.connect(api.kubeconfig({"token": TOKEN}, {"proxy-url": proxy} if by == "proxy-url" else {}))
        assert client.get(PODS) == EMPTY
    assert [one.rpartition(" ")[0] for one in asked] == [f"CONNECT localhost:{api.port}"]


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_says_that_a_proxy_does_not_answer(api: Api, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        proxy = f"{scheme}://127.0.0.1:{closed.getsockname()[1]}"
    assert failure(Client.connect(api.kubeconfig({"token": TOKEN}, {"proxy-url": proxy}))) == (
        f"the Kubernetes API at {api.server} cannot be reached through the proxy: Connection refused; "
        "check proxy-url, HTTPS_PROXY"
    )


EXEC = "/api/v1/namespaces/ns/pods/a/exec?command=say&command=it%27s&container=c&stdout=1&stderr=1"
SUCCESS = (3, '{"status": "Success"}')
FAILURE = (3, '{"status": "Failure", "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}}')


def test_runs_a_command_in_a_pod(api: Api, client: Client) -> None:
    api.answers[EXEC] = lambda: Frames([(1, "one\n"), (2, "noise\n"), (1, "two\n" * 100), SUCCESS])
    assert client.exec("ns", "a", "c", ["say", "it's"]) == "one\n" + "two\n" * 100
    assert api.seen[0].headers["authorization"] == f"Bearer {TOKEN}"
    assert client.requests == 1


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        ([(2, "noise\nno such host\n"), FAILURE], "pod ns/a: no such host"),
        ([FAILURE], "pod ns/a: say ended with status 7"),
    ],
)
def test_says_what_a_command_fails_with(api: Api, client: Client, frames: list[tuple[int, str]], told: str) -> None:
    api.answers[EXEC] = lambda: Frames(frames)
    with pytest.raises(ApiError) as caught:
        client.exec("ns", "a", "c", ["say", "it's"])
    assert str(caught.value) == told


def test_does_not_wait_for_a_command_for_ever(api: Api, client: Client) -> None:
    api.answers[EXEC] = lambda: Frames([SUCCESS], after=2)
    with pytest.raises(ApiError) as caught:
        client.exec("ns", "a", "c", ["say", "it's"], seconds=0.3)
    assert str(caught.value) == "pod ns/a: say did not end within 0.3 s"


def test_says_why_a_command_cannot_be_run(api: Api, client: Client) -> None:
    message = 'pods "a" is forbidden: User "ci" cannot create resource "pods/exec" in API group ""'
    api.answers[EXEC] = lambda: refusal(403, "Forbidden", message)
    with pytest.raises(ApiError) as caught:
        client.exec("ns", "a", "c", ["say", "it's"])
    assert str(caught.value) == f"the Kubernetes API cannot run a command in pod ns/a: {message}"


def test_waits_where_the_api_is_busy(api: Api, client: Client) -> None:
    answers = iter([refusal(429, "TooManyRequests", "busy", Retry_After="0"), Answer(EMPTY)])
    api.answers[PODS] = lambda: next(answers)
    assert client.get(PODS) == EMPTY
    assert client.requests == 2


def test_says_that_a_kubeconfig_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failure(Client.connect(f"{tmp_path}/none")) == (
        f"the Kubernetes API cannot be reached without a kubeconfig: {tmp_path}/none is not there; "
        "set cluster.kubeconfig to one, or KUBECONFIG"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert failure(Client.connect()) == (
        f"the Kubernetes API cannot be reached without a kubeconfig: {tmp_path}/.kube/config is not there; "
        "set cluster.kubeconfig to one, or KUBECONFIG"
    )


def test_says_that_a_file_is_no_kubeconfig(tmp_path: Path) -> None:
    for text in ("", "just a text", "{", "clusters: 3"):
        (tmp_path / "wrong").write_text(text)
        assert failure(Client.connect(f"{tmp_path}/wrong")) == (
            f"the Kubernetes API cannot be reached: {tmp_path}/wrong is no kubeconfig as kubectl reads it"
        )


def test_says_that_a_context_is_not_there(api: Api) -> None:
    path = api.kubeconfig({"token": TOKEN})
    assert failure(Client.connect(path, "prod")) == (
        f"the Kubernetes API cannot be reached: the kubeconfig {path} has no context prod; "
        "set cluster.context to one of lab, other"
    )


def test_says_what_is_wrong_in_a_kubeconfig(api: Api) -> None:
    path = api.kubeconfig({"token": TOKEN}, {"certificate-authority": "none.crt"})
    assert failure(Client.connect(path)) == (
        f"the Kubernetes API cannot be reached: context lab of the kubeconfig {path}: "
        f"File does not exist: {api.authority.folder}/none.crt"
    )


def test_says_that_connections_are_refused(api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    client = Client.connect(api.kubeconfig({"token": TOKEN}, {"server": f"https://localhost:{port}"}))
    assert failure(client) == (
        f"the Kubernetes API at https://localhost:{port} refuses connections; "
        "check that it is up, and `server` in the kubeconfig"
    )


def test_says_that_there_is_no_answer_in_time(api: Api) -> None:
    api.answers[PODS] = lambda: Answer(EMPTY, after=2)
    client = Client(api.kubeconfig({"token": TOKEN}), None, seconds=0.3)
    assert failure(client) == (
        f"the Kubernetes API at {api.server} did not answer within 0.3 s; "
        "check that it is up and that no firewall is between"
    )


def test_says_that_a_host_is_not_found(api: Api) -> None:
    client = Client.connect(api.kubeconfig({"token": TOKEN}, {"server": "https://no.such.invalid:6443"}))
    assert failure(client) == (
        "the Kubernetes API at https://no.such.invalid:6443 cannot be found: no such host name; "
        "check `server` in the kubeconfig, and DNS"
    )


def test_says_that_a_certificate_is_not_trusted(api: Api, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other").certificate
    client = Client.connect(api.kubeconfig({"token": TOKEN}, {"certificate-authority": str(other)}))
    assert failure(client) == (
        f"the Kubernetes API at {api.server} has a certificate that the kubeconfig does not trust "
        "(certificate signature failure); check `certificate-authority` in it"
    )


def test_says_that_a_login_is_not_accepted(api: Api, client: Client) -> None:
    api.answers[PODS] = lambda: refusal(401, "Unauthorized", "Unauthorized")
    with pytest.raises(ApiError) as caught:
        client.items(PODS)
    assert str(caught.value) == (
        f"the Kubernetes API at {api.server} does not accept the kubeconfig's login; "
        "log in again, or renew its credentials"
    )
    assert (caught.value.status, caught.value.reason) == (401, "Unauthorized")


def test_says_which_right_is_missing(api: Api, client: Client) -> None:
    message = 'secrets is forbidden: User "ci" cannot list resource "secrets" in API group "" in the namespace "vms"'
    api.answers[PODS] = lambda: refusal(403, "Forbidden", message)
    with pytest.raises(ApiError) as caught:
        client.items(PODS)
    assert str(caught.value) == f"the Kubernetes API refused: {message}; give the deployer this right"
    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")


def test_says_what_the_api_refuses(api: Api, client: Client) -> None:
    api.answers[PODS] = lambda: refusal(409, "AlreadyExists", 'pods "a" already exists')
    with pytest.raises(ApiError) as caught:
        client.post(PODS, POD)
    assert str(caught.value) == 'the Kubernetes API refused: pods "a" already exists'
    assert (caught.value.status, caught.value.reason) == (409, "AlreadyExists")


def test_says_what_a_plugin_fails_with_and_runs_it_once(api: Api, tmp_path: Path) -> None:
    command = plugin(tmp_path, f"echo run >> {tmp_path}/runs; echo 'your session has expired' >&2; exit 3")
    client = Client.connect(api.kubeconfig(exec_user(command)))
    expected = (
        f"the Kubernetes API cannot be logged in to: {command}, which context lab runs for it, failed "
        "(process returned 3. your session has expired): log in again as your cluster's provider says"
    )
    assert [failure(client), failure(client)] == [expected, expected]
    assert (tmp_path / "runs").read_text() == "run\n"
    assert api.seen == []


def test_says_that_a_plugin_is_not_there(api: Api) -> None:
    user = exec_user("no-such-login")
    assert failure(Client.connect(api.kubeconfig(user))) == (
        "the Kubernetes API cannot be logged in to: context lab needs the program no-such-login, which is not there: "
        "install it, or put it on PATH"
    )
    user = exec_user("no-such-login", installHint="Install it from https://example.com/login.\n")
    assert failure(Client.connect(api.kubeconfig(user))) == (
        "the Kubernetes API cannot be logged in to: context lab needs the program no-such-login, which is not there: "
        "Install it from https://example.com/login."
    )


def test_does_not_wait_for_a_plugin_for_ever(api: Api, tmp_path: Path) -> None:
    path = api.kubeconfig(exec_user(plugin(tmp_path, "exec sleep 2")))
    with pytest.raises(ApiError) as caught:
        log_in(path, None, seconds=0.2)
    assert str(caught.value) == (
        "the Kubernetes API cannot be logged in to: the kubeconfig's login did not end within 0.2 s; "
        "log in with kubectl first, or use a kubeconfig that asks nobody"
    )


class tunnel:
    """A proxy that forwards CONNECT to a port of this machine, and keeps what it was asked."""

    def __init__(self, target: int) -> None:
        self.target, self.asked = target, list[str]()

    def __enter__(self) -> tuple[int, list[str]]:
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._run, daemon=True).start()
        return self.listener.getsockname()[1], self.asked

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def _run(self) -> None:
        try:
            near, _ = self.listener.accept()
        except OSError:
            return
        head = b""
        while b"\r\n\r\n" not in head:
            head += near.recv(4096)
        self.asked.append(head.decode().splitlines()[0])
        far = socket.create_connection(("127.0.0.1", self.target))
        near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        pumps = [threading.Thread(target=_pump, args=pair, daemon=True) for pair in ((near, far), (far, near))]
        for pump in pumps:
            pump.start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with source, target:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
