"""A VM's routes on a real kernel and a real systemd: on a VM without any, by the commands that the stack would run."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterator

import pytest
from host_vm import desired, disk, on_vm, problems, run_configure
from stack import Kubectl, Stack, eventually, ssh_argv

from hosts.plan import DesiredHost, Route, take_down
from lab.runtime import Lab, VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

VM = VmSpec(name="ways-2", address="10.77.0.41", routed=False)
NODE = "10.77.0.10"
SERVICES, PODS = Route(to="10.96.0.0/16", via=NODE), Route(to="10.244.0.0/16", via=NODE)


@pytest.fixture(scope="module")
def host(joined: Stack, lab: Lab, kubectl: Kubectl) -> Iterator[DesiredHost]:
    """What the VM could become: with istiod at its Service, which only a route leads to."""
    lab.add_vm(VM)
    ip = kubectl("get", "-n", "istio-system", "service", "istiod", "-o", "jsonpath={.spec.clusterIP}")
    yield desired(VM, joined, kubectl, istiod_address=ip, istiod_port=15012, clock_port=443, routes=[SERVICES, PODS])
    lab.remove_vm(VM.name)


def routes(lab: Lab) -> list[str]:
    """Every route of the VM."""
    return sorted(line.strip() for line in on_vm(lab, VM, "ip -4 route").splitlines())


def of(*wanted: Route) -> list[str]:
    return [f"{route.to} via {route.via} dev eth0 proto 151" for route in wanted]


@pytest.mark.parametrize(
    ("bad", "code", "fact"),
    [
        (Route(to="10.77.0.128/25", via=NODE), "route-captures-ssh", "would take the answers to 10.77.0.254"),
        (Route(to="10.99.0.0/16", via="10.98.0.1"), "route-router", "10.98.0.1 via 10.77.0.5 dev eth0"),
        (Route(to="10.77.0.0/24", via="192.0.2.1"), "route-taken", "10.77.0.0/24 dev eth0 proto kernel"),
    ],
)  # fmt: skip
def test_a_route_that_does_harm_is_refused_before_anything_changes(
    host: DesiredHost, lab: Lab, bad: Route, code: str, fact: str
) -> None:
    before = disk(lab, VM), routes(lab)
    found = problems(run_configure(VM, dataclasses.replace(host, routes=[SERVICES, bad])))
    assert fact in found[code]
    assert "istiod-unreachable" not in found, "without the routes there is nothing to look for"
    assert (disk(lab, VM), routes(lab)) == before


def test_a_router_that_leads_nowhere_leaves_no_route(host: DesiredHost, lab: Lab) -> None:
    before = disk(lab, VM), routes(lab)
    nowhere = dataclasses.replace(host, routes=[dataclasses.replace(SERVICES, via="10.77.0.9")])
    assert list(problems(run_configure(VM, nowhere))) == ["istiod-unreachable"]
    assert (disk(lab, VM), routes(lab)) == before


def test_routes_come_back_after_each_way_to_boot_and_go_with_the_vm(host: DesiredHost, lab: Lab) -> None:
    clean = routes(lab)
    done = run_configure(VM, host)
    assert done.returncode == 0, done.stderr
    assert routes(lab) == sorted([*clean, *of(SERVICES, PODS)])
    on_vm(lab, VM, f"ip -4 route del {PODS.to}")
    assert run_configure(VM, host).stdout == ""
    assert routes(lab) == sorted([*clean, *of(SERVICES, PODS)]), "what somebody took away is back"

    lab.vm_power_off(VM.name)
    lab.vm_power_on(VM.name)
    assert routes(lab) == sorted([*clean, *of(SERVICES, PODS)])
    boot = on_vm(lab, VM, "systemctl show -P UserspaceTimestampMonotonic")
    subprocess.run(ssh_argv(VM.address, ["systemctl", "reboot"]), timeout=20, capture_output=True)

    def rebooted() -> bool:
        asked = subprocess.run(
            ssh_argv(
                VM.address, ["systemctl show -P UserspaceTimestampMonotonic; systemctl is-active istio-vm-mesh-routes"]
            ),
            timeout=20,
            capture_output=True,
            text=True,
        )
        found = asked.stdout.split()
        return found[1:] == ["active"] and found[0] != boot.strip()

    eventually(rebooted, seconds=40, what="the VM has rebooted")
    assert routes(lab) == sorted([*clean, *of(SERVICES, PODS)])

    fewer = dataclasses.replace(host, routes=[SERVICES])
    assert run_configure(VM, fewer).returncode == 0
    assert routes(lab) == sorted([*clean, *of(SERVICES)])
    removed = subprocess.run(
        ssh_argv(VM.address, [take_down(fewer.address, fewer.vm)]), capture_output=True, text=True, timeout=60
    )
    assert removed.returncode == 0, removed.stderr
    assert routes(lab) == clean
    units = "ls /etc/systemd/system/istio-vm-mesh-routes.service /etc/systemd/system/*/istio-vm-mesh-routes.service"
    assert on_vm(lab, VM, f"{{ {units}; systemctl is-enabled istio-vm-mesh-routes; }} 2>/dev/null || :") == ""
