"""The certificates, read back."""

import json
import stat
from base64 import b64decode
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from lab_places import move

from lab import pki
from lab.spec import ClusterSpec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        move(patch, tmp_path_factory.mktemp("lab"))
        pki.create(ClusterSpec(1))
        return ClusterSpec(1).pki


def certificate(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def names(folder: Path, name: str) -> set[str]:
    extension = certificate(folder, name).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return {str(entry.value) for entry in extension.value}


def subject(folder: Path, name: str) -> tuple[list[str], list[str]]:
    found = certificate(folder, name).subject
    oids = (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
    first, second = ([str(a.value) for a in found.get_attributes_for_oid(oid)] for oid in oids)
    return first, second


def test_every_certificate_is_issued_by_the_cluster_s_own_authority(folder: Path) -> None:
    authority = certificate(folder, "ca")
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    for wanted in pki.certificates(ClusterSpec(1)):
        certificate(folder, wanted.file).verify_directly_issued_by(authority)


def test_the_api_server_is_known_by_every_name_and_address_it_is_called_by(folder: Path) -> None:
    assert {
        *("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"),
        *("localhost", "127.0.0.1", "10.96.0.1", "10.77.0.10"),
    } == names(folder, "apiserver")


def test_the_subjects_are_those_that_kubernetes_gives_rights_to(folder: Path) -> None:
    assert subject(folder, "kubelet") == (["system:nodes"], ["system:node:node1"])
    assert subject(folder, "controller-manager") == ([], ["system:kube-controller-manager"])
    assert subject(folder, "admin") == (["system:masters"], ["admin"])


def test_a_mere_client_cannot_pose_as_a_server(folder: Path) -> None:
    usage = certificate(folder, "admin").extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_nobody_else_can_read_a_file(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_the_kubeconfig_holds_the_credentials(folder: Path) -> None:
    config = json.loads((folder / "admin.kubeconfig").read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://10.77.0.10:6443"
    assert config["current-context"] == config["contexts"][0]["name"] == "cluster1"
    user = config["users"][0]["user"]
    assert b64decode(user["client-certificate-data"]) == (folder / "admin.crt").read_bytes()
    assert b64decode(user["client-key-data"]) == (folder / "admin.key").read_bytes()
    assert not (folder / "apiserver.kubeconfig").exists()


def test_a_private_file_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("untouched")
    (tmp_path / "key").symlink_to(tmp_path / "other")
    pki.write_private(tmp_path / "key", b"secret")
    assert (tmp_path / "other").read_text() == "untouched"
    assert (tmp_path / "key").read_bytes() == b"secret"
