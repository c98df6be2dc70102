"""Packages that are files of the operator's: copied to the VM, before it is configured, and not through the state."""

import hashlib
from pathlib import Path
from typing import Any

import pulumi
import pytest
from recording import Run, public_text, run

from components.package_copy import package_copies
from components.ssh import SshLogin, connection_args
from hosts.plan import Package

LOGIN = SshLogin(host="10.77.0.21", port=22, user="deploy", host_key="ssh-ed25519 AAAA", private_key="not to be seen")


@pytest.fixture
def done(tmp_path: Path) -> Run:
    content = b"the package itself"
    (tmp_path / "a.rpm").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    packages = {
        "deb-amd64": Package(url="http://mirror/a.deb", sha256="0" * 64),
        "rpm-arm64": Package(file=str(tmp_path / "a.rpm"), sha256=digest),
    }

    def program() -> dict[str, Any]:
        parent = pulumi.ComponentResource("test:index:Vm", "billing-1")
        package_copies("billing-1", "10.77.0.21", connection_args(LOGIN), packages, parent)
        return {}

    return run(program)


def test_only_files_are_copied_each_to_a_name_of_its_own(done: Run, tmp_path: Path) -> None:
    assert done.names == {"billing-1", "billing-1-package-rpm-arm64"}
    copy = done["billing-1-package-rpm-arm64"]
    assert (copy.type, copy.parent_name) == ("command:remote:CopyToRemote", "billing-1")
    assert copy.inputs["source"]["path"] == str(tmp_path / "a.rpm")
    digest = hashlib.sha256(b"the package itself").hexdigest()
    assert copy.inputs["remotePath"] == f"istio-vm-mesh-{digest[:16]}.package"
    assert copy.inputs["triggers"] == ["10.77.0.21"]


def test_neither_the_content_nor_the_key_is_in_the_open(done: Run) -> None:
    seen = public_text(done["billing-1-package-rpm-arm64"].inputs)
    assert "the package itself" not in seen
    assert "not to be seen" not in seen
