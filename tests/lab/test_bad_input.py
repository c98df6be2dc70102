"""What a user gets to read when the world is not as the stack file says."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from stack import PROJECT, Stack, changes, committed_config

from lab.runtime import Lab

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(300)]


def failed_up(stack: Stack) -> str:
    """Run `up`, expect it to fail without a traceback, and return what was printed."""
    done = stack.run("up")
    text = done.stdout + done.stderr
    assert done.returncode != 0, text
    assert "Traceback" not in text
    return text


def test_an_unreachable_vm_fails_within_20_seconds_and_the_other_is_done(stack: Stack) -> None:
    """The first VM is edited in the same run: its change must be done, and its outputs whole."""
    known_hosts = (PROJECT / ".lab/ssh/known_hosts").read_text().split()
    stack.billing["vms"]["billing-9"] = {"address": "10.77.0.99", "hostKey": " ".join(known_hosts[1:3])}
    stack.billing["labels"]["version"] = "v9"
    text = failed_up(stack)
    assert "billing-9-configure" in text
    assert "10.77.0.99" in text
    outputs = stack.outputs()
    vms = outputs["registration"]["vms"]
    assert {name: vm["state"] for name, vm in vms.items()} == {
        "billing-1": "healthy",
        "billing-2": "healthy",
        "billing-9": "unreachable",
    }
    assert vms["billing-9"]["hint"]
    assert "04da6b54-80e4-46f7-96ec-b56ff0331ba9" not in str(outputs), "no output may be unknown"
    # Within 20 s, measured where nothing else is to be done.
    begin = time.monotonic()
    failed_up(stack)
    assert time.monotonic() - begin < 20 + 6
    del stack.billing["vms"]["billing-9"]
    stack.up()


def test_a_wrong_host_key_is_refused_and_named(stack: Stack) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEGkbW4cDqzJ5WVcmNDS3s7DLLkfwhBcqhEtgc6HlIwF"
    stack.billing["vms"]["billing-2"]["hostKey"] = key
    stack.billing["labels"]["version"] = "v3"
    text = failed_up(stack)
    assert "billing-2-configure" in text
    assert "host key" in text
    assert stack.states()["billing-1"] == "healthy"


def test_a_user_without_sudo_rights_changes_nothing(stack: Stack, lab: Lab) -> None:
    del stack.billing["vms"]["billing-2"]
    stack.up()
    stack.billing["vms"]["billing-2"] = {"address": "10.77.0.22", "ssh": {"user": "deploy"}}
    text = failed_up(stack)
    assert '"code":"no-root"' in text.replace(" ", "")
    assert "billing-2" in text
    assert not lab.vm_root("billing-2").joinpath("etc/istio").exists()


def test_a_user_with_passwordless_sudo_is_enough(stack: Stack) -> None:
    del stack.billing["vms"]["billing-2"]
    stack.up()
    stack.billing["vms"]["billing-2"] = {"address": "10.77.0.22", "ssh": {"user": "operator"}}
    stack.up()
    assert stack.states()["billing-2"] == "healthy"


def test_a_missing_chart_is_named_before_anything_changes(stack: Stack) -> None:
    stack.config["istio"]["charts"] = ".lab/no-charts"
    text = failed_up(stack)
    assert "istio.charts" in text
    assert ".lab/no-charts" in text


def test_an_unreachable_cluster_is_named(stack: Stack, tmp_path: Path) -> None:
    kubeconfig: dict[str, Any] = yaml.safe_load((PROJECT / ".lab/kubeconfig").read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    other = tmp_path / "kubeconfig"
    other.write_text(yaml.safe_dump(kubeconfig))
    other.chmod(0o600)
    stack.config["cluster"]["kubeconfig"] = str(other)
    before = stack.outputs()
    text = failed_up(stack)
    assert "127.0.0.1:1" in text
    assert "cluster" in text
    stack.config["cluster"]["kubeconfig"] = ".lab/kubeconfig"
    stack.up()
    assert stack.outputs() == before


def test_every_problem_of_a_stack_file_in_one_message(stack: Stack) -> None:
    stack.config["istoi"] = {}
    stack.billing["ports"] = {"Http_": 8080}
    stack.billing["service"] = {"host": "billing", "ports": {"http": 80}}
    text = failed_up(stack)
    for path in ("istoi", "workloads.billing.ports.Http_", "workloads.billing.service.host"):
        assert path in text
    assert changes_are_none(stack)


def changes_are_none(stack: Stack) -> bool:
    """Whether the committed stack file still describes what is there."""
    stack.config = committed_config()
    return changes(stack.preview()) == {}
