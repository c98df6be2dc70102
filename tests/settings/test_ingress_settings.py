"""The ingress gateway's settings: its certificates, which are read and tried, and where its hosts lead."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tls import Authority

from settings import destination_port, parse

Problems = Callable[..., list[str]]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.issue("shop", "shop.example.com", "*.bank.example.com")
    made.issue("other", "other.example.com")
    return made


@pytest.fixture
def shop(stack: dict[str, Any], authority: Authority) -> dict[str, Any]:
    """The stack with an ingress gateway; its part about the certificate, to spoil."""
    certificate = {
        "certificateFile": str(authority.folder / "shop.crt"),
        "privateKeyFile": str(authority.folder / "shop.key"),
    }
    to = {"to": "billing.vm-apps.svc.cluster.local", "tls": {"secret": "shop"}}
    stack["ingressGateway"] = {
        "enabled": True,
        "certificates": {"shop": certificate},
        "hosts": {"shop.example.com": to, "*.bank.example.com": to},
    }
    return certificate


def test_a_certificate_and_its_key_become_settings(
    shop: dict[str, Any], stack: dict[str, Any], project: Path, authority: Authority
) -> None:
    shop["clientCaFile"] = str(authority.certificate)
    settings = parse(stack, project_dir=project)
    found = settings.certificates["shop"]
    assert found.certificate == (authority.folder / "shop.crt").read_text()
    assert found.private_key.get_secret_value() == (authority.folder / "shop.key").read_text()
    assert found.client_ca == authority.certificate.read_text()
    key = found.private_key.get_secret_value().splitlines()[1]
    assert key not in repr(settings)


@pytest.mark.parametrize(
    ("key", "file", "told"),
    [
        ("privateKeyFile", "other.key", "not the key of its certificate (got {got}), the key of the first certificate"),
        ("privateKeyFile", "none.key", "no such file (got {got}), the path of a file, relative to the project"),
        ("privateKeyFile", "shop.crt", "is no private key (got {got}), an OpenSSH or PEM private key"),
        ("certificateFile", "shop.key", "holds no certificate (got {got}), a PEM file, with its BEGIN and END lines"),
        ("certificateFile", "bad.crt", "holds a damaged certificate (got {got}), a PEM file as openssl x509 reads it"),
        ("clientCaFile", "shop.key", "holds no certificate (got {got}), a PEM file, with its BEGIN and END lines"),
    ],
)
def test_certificates_that_tls_cannot_take(
    shop: dict[str, Any],
    stack: dict[str, Any],
    problems: Problems,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    file: str,
    told: str,
) -> None:
    monkeypatch.setattr("settings.problems._SHOWN", 1000)
    (authority.folder / "bad.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (authority.folder / "shop.crt").chmod(0o600)
    shop[key] = str(authority.folder / file)
    (line,) = problems(stack)
    assert line.startswith(f"ingressGateway.certificates.shop.{key}: " + told.format(got=f'"{shop[key]}"'))


def test_a_key_that_others_can_read(
    shop: dict[str, Any], stack: dict[str, Any], problems: Problems, authority: Authority
) -> None:
    (authority.folder / "shop.key").chmod(0o644)
    (line,) = problems(stack)
    assert line.startswith(
        "ingressGateway.certificates.shop.privateKeyFile: others can read or write it (mode 0644) (got "
    )


def test_a_certificate_must_be_for_its_hosts(shop: dict[str, Any], stack: dict[str, Any], problems: Problems) -> None:
    hosts = stack["ingressGateway"]["hosts"]
    hosts["www.example.com"] = hosts["shop.example.com"]
    (line,) = problems(stack)
    assert line.startswith("ingressGateway.certificates.shop.certificateFile: not for www.example.com (got ")
    assert line.endswith(", a certificate with the name www.example.com")


def test_files_of_a_gateway_that_is_not_there_are_not_read(
    shop: dict[str, Any], stack: dict[str, Any], problems: Problems
) -> None:
    shop["privateKeyFile"] = "nowhere"
    stack["ingressGateway"]["enabled"] = False
    assert problems(stack) == []


def test_the_only_port_of_a_service_need_not_be_said(
    shop: dict[str, Any], stack: dict[str, Any], project: Path
) -> None:
    settings = parse(stack, project_dir=project)
    host = settings.ingress_gateway.hosts["shop.example.com"]
    assert destination_port({"http": 80}, host) == 80
    assert destination_port({}, host) is None
    assert destination_port({"http": 80, "grpc": 90}, host) is None
    assert destination_port({}, host.model_copy(update={"port": 8080})) == 8080


def test_the_gateway_gets_its_proxy(shop: dict[str, Any], stack: dict[str, Any], problems: Problems) -> None:
    stack["ingressGateway"]["namespace"] = "edge"
    stack["namespaces"] = {"edge": {"injection": "disabled"}}
    what = "the ingress gateway is there, whose pods would not get the proxy that they are"
    assert problems(stack) == [
        f'namespaces.edge.injection: {what} (got "disabled"), byPod, or another namespace for it'
    ]
    stack["namespaces"]["edge"]["injection"] = "byPod"
    assert problems(stack) == []
