"""Packages on real machines: from the operator's disk, in place of another version, and of the other kind."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from host_vm import as_file, on_vm
from packages import another_version
from stack import Stack, changes

from lab import paths
from lab.progress import Progress
from lab.runtime import Lab
from lab.spec import VmSpec
from lab.toolchain import debian
from lab.toolchain.build import build_missing
from lab.toolchain.cache import Cache, cache_root

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(300)]

HOST = VmSpec(name="host-2", address="10.77.0.52")
RUNNING = "systemctl show istio -p MainPID,ActiveEnterTimestampMonotonic"


def own_copy(version: str, folder: Path) -> dict[str, str]:
    """The lab's package with another version, where Pulumi runs."""
    with another_version(version):
        return as_file(Path(shutil.copy(paths.MIRROR / f"istio-sidecar-{version}.deb", folder)))


def packages_of(stack: Stack, vm: VmSpec, kind: str, package: dict[str, str]) -> None:
    """Give the VM a package of its own."""
    stack.billing["vms"][vm.name]["sidecar"] = {"amd64": {kind: package}}


def test_a_package_of_the_operators_is_copied_kept_and_replaced_by_a_later_one(
    joining: Stack, lab: Lab, vm: VmSpec, tmp_path: Path
) -> None:
    packages_of(joining, vm, "deb", own_copy("1.31.0", tmp_path))
    joining.up()
    assert joining.states()[vm.name] == "healthy"
    assert on_vm(lab, vm, "dpkg-query -W -f '${Version}' istio-sidecar") == "1.31.0"
    assert on_vm(lab, vm, "ls /root") == "", "the copy goes when it is installed"
    assert changes(joining.preview()) == {}
    assert joining.on_lab.state.stat().st_size < 3_000_000, "a package is no part of the state"

    # Already right is not touched, whatever else changes.
    envoy, running = on_vm(lab, vm, "stat -c %i:%z /usr/local/bin/envoy"), on_vm(lab, vm, RUNNING)
    joining.billing["vms"][vm.name]["labels"] = {"tier": "x"}
    joining.up()
    assert on_vm(lab, vm, "stat -c %i:%z /usr/local/bin/envoy") == envoy
    assert on_vm(lab, vm, RUNNING) != running

    # In place: configuration files stay as they were edited, and the sidecar runs again.
    running = on_vm(lab, vm, RUNNING)
    on_vm(lab, vm, "echo '# by hand' >>/var/lib/istio/envoy/sidecar.env")
    packages_of(
        joining, vm, "deb", {"url": "http://10.77.0.5/istio-sidecar.deb", "sha256": ".lab/istio-sidecar.deb.sha256"}
    )
    joining.up()
    assert on_vm(lab, vm, "dpkg-query -W -f '${Version}' istio-sidecar") == "1.31.1"
    assert on_vm(lab, vm, "tail -n 1 /var/lib/istio/envoy/sidecar.env") == "# by hand\n"
    assert on_vm(lab, vm, RUNNING) != running
    assert joining.states()[vm.name] == "healthy"
    running = on_vm(lab, vm, RUNNING)

    # A later one than istiod's is refused, and the VM goes on as it was.
    packages_of(joining, vm, "deb", own_copy("1.32.0", tmp_path))
    done = joining.run("up")
    assert done.returncode != 0
    assert '"code":"package-newer","fact":"the sidecar is 1.32.0, istiod is 1.31.1"' in done.stdout + done.stderr
    assert on_vm(lab, vm, RUNNING) == running
    assert joining.live()[vm.name] == "healthy"


BUILD = r"""
mkdir /root/build && cd /root/build
curl -fsO http://10.77.0.5/istio-sidecar.deb
dpkg-deb -x istio-sidecar.deb tree
dpkg-deb -e istio-sidecar.deb control
head='Release: 1
License: Apache-2.0
Summary: A test
AutoReqProv: no
%global __os_install_post %{nil}
%global _binary_payload w0.gzdio'
cat >system.spec <<END
Name: system
Version: 1
Provides: iproute, iptables, sudo, hostname, /bin/sh, /bin/bash
$head
%description
What Debian has installed and rpm does not know of.
%files
END
cat >istio-sidecar.spec <<END
Name: istio-sidecar
Version: 1.31.1
Requires: iproute, iptables, sudo, hostname
$head
%description
The lab's package, as tools/packaging/packaging.mk of Istio has rpm's made.
%install
cp -a /root/build/tree/. %{buildroot}
%post -p /bin/bash
$(cat control/postinst)
%files
%config(noreplace) /var/lib/istio/envoy/envoy_bootstrap_tmpl.json
%config(noreplace) /var/lib/istio/envoy/sidecar.env
/lib/systemd/system/istio.service
/usr/local/bin/*
END
rpmbuild -bb --quiet --define '_topdir /root/build/out' system.spec istio-sidecar.spec 2>/dev/null
rpm -i out/RPMS/x86_64/system-1-1.x86_64.rpm 2>/dev/null
mv out/RPMS/x86_64/istio-sidecar-1.31.1-1.x86_64.rpm /root
rm -r /root/build
mv /usr/bin/dpkg-query /usr/bin/dpkg-query.away
"""
"""Makes the lab's package anew as an rpm, with a database of rpm's that knows of what it needs; takes dpkg out."""


LEFT = """
HOME=/root rpm -q istio-sidecar
ls -d /usr/local/bin/envoy /var/lib/istio /var/lib/istio-vm-mesh
getent passwd istio-proxy
true
"""


def test_an_rpm_joins_and_leaves(joining: Stack, lab: Lab, vm: VmSpec, tmp_path: Path) -> None:
    cache, part = Cache(cache_root()), debian.rpm_part()
    build_missing([part], cache, Progress())
    packed = subprocess.run(["tar", "-C", str(cache.folder(part)), "-c", "usr", "lib"], capture_output=True, check=True)
    unpack = ["tar", "-C", str(lab.vm_root(vm.name)), "-x", "--keep-directory-symlink"]
    subprocess.run(unpack, input=packed.stdout, check=True)
    on_vm(lab, vm, BUILD)
    rpm = tmp_path / "istio-sidecar.rpm"
    shutil.move(lab.vm_root(vm.name) / "root/istio-sidecar-1.31.1-1.x86_64.rpm", rpm)
    packages_of(joining, vm, "rpm", as_file(rpm))
    joining.up()
    assert joining.states()[vm.name] == "healthy"
    assert on_vm(lab, vm, "HOME=/root rpm -q istio-sidecar") == "istio-sidecar-1.31.1-1.x86_64\n"
    assert changes(joining.preview()) == {}

    del joining.billing["vms"][vm.name]
    joining.up()
    left = lab.vm_exec(vm.name, ["sh", "-c", LEFT])
    assert left.stdout == "package istio-sidecar is not installed\n"
