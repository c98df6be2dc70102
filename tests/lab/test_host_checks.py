"""Before anything changes: what is wrong with a host is told at once, and the host is as it was."""

from __future__ import annotations

import dataclasses

import pytest
from host_vm import PACKAGE_URL, desired, disk, lab_digest, on_vm, problems, run_configure
from stack import Kubectl, Stack, changes

from hosts.plan import Package
from hosts.sudoers import sudoers
from lab.runtime import Lab
from lab.spec import VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(300)]

HOST = VmSpec(name="host-1", address="10.77.0.50")
TABLES = "for table in filter nat mangle raw; do iptables -t $table -S; ip6tables -t $table -S; done"
RULES = f"PATH=/usr/sbin:/usr/bin; {TABLES}"
ACCOUNTS = ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/hosts")
"""Files that are written again by those who take something out of them."""
BREAK = r"""
systemd-run -q --unit=squatter --socket-property=ListenStream=0.0.0.0:15006 -p StandardInput=socket cat
systemd-run -q --unit=resolver --socket-property=ListenDatagram=127.0.0.1:53 sleep 60
cp -a /etc/resolv.conf /etc/resolv.conf.kept
printf 'nameserver 127.0.0.1\nnameserver 10.77.0.5\n' >/etc/resolv.conf
touch /usr/local/bin/pilot-agent
mkdir -p /usr/local/sbin
fake() { printf '#!/bin/sh\n%s\n' "$2" >/usr/local/sbin/$1; chmod 755 /usr/local/sbin/$1; }
fake date 'case "$*" in *-d*) exec /usr/bin/date "$@" ;; *) echo $(($(/usr/bin/date +%s) + 3600)) ;; esac'
fake getconf 'echo glibc 2.17'
fake iptables 'echo "Could not fetch rule set generation id: Permission denied" >&2; exit 4'
"""
MEND = r"""
systemctl stop squatter.socket resolver.socket squatter.service resolver.service 2>/dev/null || :
mv /etc/resolv.conf.kept /etc/resolv.conf
rm -f /usr/local/bin/pilot-agent /usr/local/sbin/date /usr/local/sbin/getconf /usr/local/sbin/iptables
"""


def test_all_that_is_wrong_is_told_at_once_and_nothing_changes(
    dev_stack: Stack, lab: Lab, kubectl: Kubectl, vm: VmSpec
) -> None:
    good = desired(vm, dev_stack, kubectl)
    other = kubectl("get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}")
    files = dataclasses.replace(good.files, root_certificate=other)
    bad = dataclasses.replace(good, address="10.77.0.51", istio_version="1.30.9", files=files)
    on_vm(lab, vm, BREAK)
    before, rules = disk(lab, vm), on_vm(lab, vm, RULES)
    found = problems(run_configure(vm, bad))
    assert list(found) == [
        *("foreign-sidecar", "address", "port-taken", "dns-loop", "istiod-untrusted", "clock"),
        *("package-newer", "libc", "packet-filter"),
    ]
    assert found["foreign-sidecar"] == "istio-vm-mesh did not install: /usr/local/bin/pilot-agent"
    assert found["address"] == "10.77.0.51 is on none of this VM's interfaces (10.77.0.50 )"
    assert found["port-taken"].startswith("the sidecar's ports are in use: 15006 ")
    assert found["clock"].startswith("this VM's clock is 36")
    assert found["package-newer"] == "the sidecar is 1.31.1, istiod is 1.30.9"
    assert "this VM has 2.17" in found["libc"]
    assert "Permission denied" in found["packet-filter"]
    after = disk(lab, vm)
    assert {
        path: (before.get(path), after.get(path)) for path in {*before, *after} if before.get(path) != after.get(path)
    } == {}
    assert on_vm(lab, vm, RULES) == rules
    assert on_vm(lab, vm, "ls -d /tmp/istio-vm-mesh.* /run/istio-vm-mesh.?????? 2>/dev/null || :") == ""

    on_vm(lab, vm, MEND)
    done = run_configure(vm, good)
    assert done.returncode == 0, done.stderr
    assert "installed istio-sidecar 1.31.1" in done.stdout


def test_the_clock_is_held_against_the_meshs(dev_stack: Stack, lab: Lab, kubectl: Kubectl, vm: VmSpec) -> None:
    """The right clock passes, though it was compared: an answer came."""
    istiod = dev_stack.outputs()["mesh"]["istiod"]["address"]
    asked = f"curl -sk -o /dev/null -D - --connect-to ::{istiod}:15017 https://istiod.istio-system.svc/"
    assert "date: " in on_vm(lab, vm, asked).lower()
    wrong = Package(url=PACKAGE_URL, sha256="0" * 64)
    found = problems(run_configure(vm, desired(vm, dev_stack, kubectl, packages={"deb-amd64": wrong})))
    assert found == {"package-checksum": f"{PACKAGE_URL} has SHA-256 {lab_digest()}, not {'0' * 64}"}


def test_without_roots_rights_the_rest_is_told_too(dev_stack: Stack, lab: Lab, kubectl: Kubectl, vm: VmSpec) -> None:
    before = disk(lab, vm)
    found = problems(run_configure(vm, desired(vm, dev_stack, kubectl, address="10.77.0.51"), user="deploy"))
    assert list(found) == ["no-root", "address"]
    assert disk(lab, vm) == before


def test_the_least_sudoers_file_is_enough_to_join_and_to_leave(joining: Stack, lab: Lab, vm: VmSpec) -> None:
    write = "cat >/etc/sudoers.d/istio-vm-mesh; chmod 440 /etc/sudoers.d/istio-vm-mesh; visudo -cq"
    on_vm(lab, vm, write, stdin=sudoers("deploy"))
    before = disk(lab, vm)
    texts = {path: (lab.vm_root(vm.name) / path).read_text() for path in ACCOUNTS}
    joining.billing["vms"][vm.name]["ssh"] = {"user": "deploy"}
    joining.up()
    assert joining.states()[vm.name] == "healthy"
    assert changes(joining.preview()) == {}
    refused = lab.vm_exec(vm.name, ["runuser", "-u", "deploy", "--", "sudo", "-n", "/bin/sh", "-c", "id"])
    assert refused.returncode != 0, "nothing else is allowed"
    del joining.billing["vms"][vm.name]
    joining.up()
    after = disk(lab, vm)
    assert after.keys() == before.keys(), "nothing is left, and nothing is missing"
    written = {path for path in after if before[path] != after[path]}
    assert {path.rstrip("-") for path in written if not path.startswith("var/lib/dpkg/")} <= set(ACCOUNTS)
    assert {path: (lab.vm_root(vm.name) / path).read_text() for path in ACCOUNTS} == texts


def test_somebody_elses_sidecar_is_left_alone_until_it_may_be_adopted(joining: Stack, lab: Lab, vm: VmSpec) -> None:
    on_vm(
        lab, vm, f"cd /root; curl -fsO {PACKAGE_URL}; dpkg -i istio-sidecar.deb; rm istio-sidecar.deb; touch /etc/mine"
    )
    before = disk(lab, vm)
    done = joining.run("up")
    assert done.returncode != 0
    assert '"code":"foreign-sidecar","fact":"istio-vm-mesh did not install: package istio-sidecar 1.31.1' in done.stdout
    assert disk(lab, vm) == before
    joining.config["hosts"]["existingSidecar"] = "adopt"
    joining.up()
    assert joining.states()[vm.name] == "healthy"
