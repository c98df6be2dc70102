"""What somebody changes on a VM: shown by file and line as that VM's change, put back by `up`, and then no change."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from stack import PROJECT, Stack, changes

from lab.runtime import Lab
from observation import observe
from settings import from_stack_file

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

BOTH = {"billing-1": "healthy", "billing-2": "healthy"}
REPAIR = dict.fromkeys(["billing-1-configure", "billing-1-enrol", "billing-1-confirm"], "update")
EDITS = {
    "file": (
        "sed -i 's/^  meshId: .*/  meshId: elsewhere/' /etc/istio/config/mesh",
        ["/etc/istio/config/mesh:3 -   meshId: mesh1", "/etc/istio/config/mesh:3 +   meshId: elsewhere"],
    ),
    "mode": (
        "chmod 600 /var/lib/istio/envoy/cluster.env",
        ["/var/lib/istio/envoy/cluster.env mode + 600 istio-proxy:istio-proxy regular file"],
    ),
    "unit": (
        "systemctl disable --now istio",
        ["istio.service - enabled", "istio.service + disabled", "istio.service - active", "istio.service + inactive"],
    ),
    "rules": (
        "for tables in iptables iptables-legacy; do $tables -t nat -F; done",
        ["iptables-legacy - nat: -A OUTPUT -j ISTIO_OUTPUT"],
    ),
    "hosts": (
        "sed '/^# istio-vm-mesh begin/,/^# istio-vm-mesh end/d' /etc/hosts >/tmp/hosts; cat /tmp/hosts >/etc/hosts",
        ["/etc/hosts block:2 - 10.77.0.200 istiod.istio-system.svc"],
    ),
    "package": ("dpkg --purge istio-sidecar", ["package + istio-sidecar"]),
    "certificate": (
        "rm /etc/certs/cert-chain.pem",
        ["certificate - /etc/certs/cert-chain.pem"],
    ),
    "program": ("sed -i '3i if then' /usr/local/lib/istio-vm-mesh/host", ["since "]),
    "everything": (
        "sh /usr/local/lib/istio-vm-mesh/host remove",
        ["nothing of istio-vm-mesh was here "],
    ),
}


ALWAYS = ("file", "rules", "everything")
"""What `make test` tries; the others differ in what is looked at only."""


def on_vm(lab: Lab, vm: str, script: str) -> str:
    done = lab.vm_exec(vm, ["sh", "-c", script])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def drift_of(lines: Sequence[str]) -> list[str]:
    """The differences among the lines of a command, without the time since when."""
    told = [line.removeprefix("drift: ") for line in lines if line.startswith("drift: ")]
    return [line.partition("Z: ")[2] or line for line in told]


def drift_lines(plan: Mapping[str, Any], vm: str) -> list[str]:
    """What a plan's change of a VM says about it."""
    (step,) = [step for step in plan["steps"] if step["urn"].endswith(f"::{vm}-configure")]
    command = str(step["newState"]["inputs"]["create"])
    return drift_of(command.splitlines())


@pytest.mark.parametrize(
    "edit", [edit if edit in ALWAYS else pytest.param(edit, marks=pytest.mark.long) for edit in EDITS]
)
def test_a_change_on_a_vm_shows_by_file_and_line_and_is_put_back(joined: Stack, lab: Lab, edit: str) -> None:
    script, expected = EDITS[edit]
    on_vm(lab, "billing-1", script)
    plan = joined.preview()
    assert changes(plan) == REPAIR
    shown = drift_lines(plan, "billing-1")
    for start in expected:
        assert any(line.startswith(start) for line in shown), shown
    text = joined.run("preview").stdout
    added = [line.strip()[2:] for line in text.splitlines() if line.strip().startswith("+ drift: ")]
    assert drift_of(added) == shown
    joined.up()
    assert joined.states() == BOTH
    assert changes(joined.preview()) == {}, "a repair must not be a change again"
    assert joined.live() == BOTH


@pytest.mark.long
def test_a_preview_and_status_say_drifted(joined: Stack, lab: Lab) -> None:
    on_vm(lab, "billing-2", "systemctl disable istio")
    try:
        assert joined.live() == {"billing-1": "healthy", "billing-2": "drifted"}
        text = joined.run("preview").stdout
        assert "drifted" in text
        assert "not as it was left: istio.service" in text
    finally:
        on_vm(lab, "billing-2", "systemctl enable istio")
    assert changes(joined.preview()) == {}, "what was put back by hand is no change"
    assert joined.live() == BOTH


@contextmanager
def off(lab: Lab, vm: str) -> Iterator[None]:
    lab.vm_power_off(vm)
    try:
        yield
    finally:
        lab.vm_power_on(vm)


@pytest.mark.long
def test_a_powered_off_vm_is_reported_and_the_others_difference_is_shown_and_put_back(joined: Stack, lab: Lab) -> None:
    on_vm(lab, "billing-1", "rm /etc/certs/root-cert.pem")
    with off(lab, "billing-2"):
        done = joined.run("preview")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "vm billing-2 was not looked at: ssh to 10.77.0.22:22: " in done.stdout + done.stderr
        assert "Z: /etc/certs/root-cert.pem + missing" in done.stdout
        assert changes(joined.preview()) == REPAIR
        joined.up()
        assert changes(joined.preview()) == {}
    assert changes(joined.preview()) == {}


@contextmanager
def hanging_sshd(lab: Lab, vm: str) -> Iterator[None]:
    """Connections are taken, and nothing is ever said."""
    main = on_vm(lab, vm, "systemctl show -p MainPID --value ssh").strip()
    on_vm(lab, vm, f"kill -STOP {main}")
    try:
        yield
    finally:
        on_vm(lab, vm, f"kill -CONT {main}")


@pytest.mark.long
def test_a_vm_whose_sshd_hangs_costs_ten_seconds_at_most(joined: Stack, lab: Lab) -> None:
    joined.write()
    settings = from_stack_file(joined.file, PROJECT / "Pulumi.yaml")
    with hanging_sshd(lab, "billing-2"):
        begin = time.monotonic()
        found = observe(settings)
        took = time.monotonic() - begin
        assert found["billing-2"].unknown.endswith("no answer within 9 s")
        assert (found["billing-1"].unknown, found["billing-1"].drift) == ("", ())
        assert 8 < took < 10
        assert joined.live() == BOTH
    assert changes(joined.preview()) == {}


def test_the_key_is_in_no_argument_environment_or_file_of_the_program(joined: Stack, lab: Lab) -> None:
    """Read from /proc while a run waits for a VM that does not answer."""
    key = [line for line in (PROJECT / ".lab/ssh/id_ed25519").read_text().splitlines() if "PRIVATE KEY" not in line]
    with hanging_sshd(lab, "billing-2"), joined.started("preview"):
        time.sleep(4)
        seen = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "cwd").readlink() == PROJECT:
                    seen[process.name] = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            except OSError:
                continue
    assert any(b"pulumi\x00preview\x00" in text for text in seen.values())
    assert not [line for line in key for text in seen.values() if line.encode() in text]
