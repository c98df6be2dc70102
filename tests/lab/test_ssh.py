"""Ways to a VM by ssh: through a bastion, with an agent, as another user, at another port; and fifty at once."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from plugin_client import REMOTE, Engine, Failed, Provider
from stack import PROJECT, Kubectl, Stack, changes

from components import ssh
from lab.runtime import Lab
from lab.spec import VmSpec

pytestmark = [pytest.mark.lab, pytest.mark.long, pytest.mark.timeout(300)]

GATE = VmSpec(name="gate", address="10.77.0.108")
INNER = VmSpec(name="inner-1", address="10.77.0.109")
KEY = PROJECT / ".lab/ssh/id_ed25519"
PORT = 2222
NOBODY = "10.77.0.107"
VMS = 50


def configure_sshd(lab: Lab, vm: VmSpec, text: str) -> None:
    """Add to what sshd of a VM is configured with; the first value of a key is the one that holds."""
    script = "cat > /etc/ssh/sshd_config.d/00-test.conf && systemctl restart ssh"
    done = lab.vm_exec(vm.name, ["sh", "-c", script], stdin=text)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def inner(lab: Lab) -> Iterator[VmSpec]:
    """A VM whose sshd listens at another port too, which only the bastion reaches."""
    lab.add_vm(GATE)
    lab.add_vm(INNER)
    configure_sshd(lab, GATE, "MaxStartups 10:30:100\n")
    configure_sshd(lab, INNER, f"Port 22\nPort {PORT}\nMaxStartups 200\n")  # at 22 the lab sees that it is up
    only = ["-p", "tcp", "--dport", str(PORT), "!", "-s", GATE.address, "-j", "REJECT"]
    assert lab.vm_exec(INNER.name, ["iptables", "-A", "INPUT", *only]).returncode == 0
    yield INNER
    lab.remove_vm(INNER.name)
    lab.remove_vm(GATE.name)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    """The socket of an ssh agent that holds the lab's key."""
    path = str(tmp_path / "agent")
    running = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        add = ["ssh-add", "-q", str(KEY)]
        for _ in range(50):
            if Path(path).exists():
                break
            with pytest.raises(subprocess.TimeoutExpired):
                running.wait(0.1)
        subprocess.run(add, env={"SSH_AUTH_SOCK": path, "PATH": "/usr/bin:/bin"}, check=True, timeout=10)
        yield path
    finally:
        running.terminate()
        running.wait()


def host_key(address: str) -> str:
    lines = (line.split() for line in (PROJECT / ".lab/ssh/known_hosts").read_text().splitlines())
    return next(" ".join(parts[1:3]) for parts in lines if parts[0] == address)


def fingerprint(key: str) -> str:
    kind, blob = key.split()
    return f"{kind} SHA256:{base64.b64encode(hashlib.sha256(base64.b64decode(blob)).digest()).decode().rstrip('=')}"


def test_a_vm_joins_and_leaves_over_a_bastion_with_an_agent_as_another_user_at_another_port(
    stack: Stack, lab: Lab, kubectl: Kubectl, inner: VmSpec, agent: str, tmp_path: Path
) -> None:
    bastion: dict[str, Any] = {"host": GATE.address, "user": "deploy"}  # who may do nothing there but pass
    vm = {
        "address": inner.address,
        "hostKey": host_key(inner.address),
        "ssh": {"user": "operator", "port": PORT, "agent": True, "bastion": bastion},
    }
    environment = stack.environment
    stack.billing["vms"][inner.name] = vm
    stack.environment = {**environment, "SSH_AUTH_SOCK": agent}
    try:
        stack.up()
        assert stack.states() == {"billing-1": "healthy", "billing-2": "healthy", inner.name: "healthy"}

        # An agent's socket has another path each time; nothing of it may be in the state.
        other = tmp_path / "moved"
        other.symlink_to(agent)
        stack.environment = {**environment, "SSH_AUTH_SOCK": str(other)}
        assert changes(stack.preview()) == {}

        wrong = host_key("10.77.0.21")
        bastion["hostKey"] = wrong
        done = stack.run("up")
        told = "proxy: after 10 failed attempts: ssh: handshake failed: ssh: host key mismatch"
        assert done.returncode != 0
        assert told in done.stdout + done.stderr
        assert {name: state for name, state in stack.states().items() if state != "healthy"} == {inner.name: "failed"}

        del bastion["hostKey"]
        stack.up()
        del stack.billing["vms"][inner.name]
        stack.up()
    finally:
        stack.environment = environment
    entries = json.loads(kubectl("get", "workloadentries", "-A", "-o", "json"))["items"]
    assert inner.address not in {entry["spec"]["address"] for entry in entries}
    left = lab.vm_exec(inner.name, ["sh", "-c", "ls -d /etc/istio /usr/local/lib/istio-vm-mesh 2>/dev/null; true"])
    assert left.stdout == ""


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.server.stop(None).wait()


@pytest.fixture
def provider(stack: Stack, engine: Engine) -> Iterator[Provider]:
    """The command plugin that the CLI runs, by its own protocol."""
    home = Path(stack.environment.get("PULUMI_HOME", Path.home() / ".pulumi"))
    (program,) = home.glob("plugins/resource-command-*/pulumi-resource-command")
    provider = Provider(program, engine)
    yield provider
    provider.interrupt()


def behind_gate(provider: Provider, address: str, key: str, command: str) -> str:
    """Run a command behind the bastion with the limits of the program, and return what it printed."""
    login = {"user": "root", "privateKey": KEY.read_text()}
    connection = {
        **login,
        "host": address,
        "port": PORT,
        "hostKey": key,
        "dialErrorLimit": ssh.THROUGH_BASTION_ERRORS,
        "perDialTimeout": ssh.DIAL_SECONDS,
        "proxy": {
            **login,
            "host": GATE.address,
            "hostKey": host_key(GATE.address),
            "dialErrorLimit": ssh.BASTION_DIAL_ERRORS,
            "perDialTimeout": ssh.BASTION_DIAL_SECONDS,
        },
    }
    inputs, failures = provider.check(REMOTE, {"connection": connection, "create": command})
    assert failures == []
    return str(provider.create(REMOTE, inputs, name="c")[1]["stdout"])


def test_fifty_vms_at_once_pass_one_bastion(lab: Lab, inner: VmSpec, provider: Provider, engine: Engine) -> None:
    """Its sshd has OpenSSH's own limit, at which it hangs up on some of so many."""
    with ThreadPoolExecutor(VMS) as pool:
        key = host_key(inner.address)
        done = pool.map(lambda i: behind_gate(provider, inner.address, key, f"echo {i}"), range(VMS))
        assert list(done) == [str(number) for number in range(VMS)]
    assert engine.lines("c"), "the bastion has hung up on nobody, so this shows nothing"


def test_a_vm_that_is_not_there_behind_a_bastion_fails_within_20_seconds(
    lab: Lab, inner: VmSpec, provider: Provider
) -> None:
    begin = time.monotonic()
    with pytest.raises(Failed, match="proxy: after 0 failed attempts: ssh: rejected: connect failed"):
        behind_gate(provider, NOBODY, host_key(inner.address), "true")
    assert time.monotonic() - begin < 20
