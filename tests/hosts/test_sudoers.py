"""The sudoers file: exactly what the steps ask sudo for, and nothing else that a shell could be made to do."""

import fnmatch
import re

import pytest
from host_program import HOST

from hosts.plan import configure, confirm, drain, enrol, unconfigure
from hosts.sudoers import main, sudoers

FILE = sudoers("deploy")


def allowed(command: str) -> bool:
    """Whether sudo would run a command line, by its own rule: the path, then the arguments as one pattern."""
    (rule,) = [line for line in FILE.splitlines() if "NOPASSWD" in line]
    assert rule.startswith("deploy ALL=(root) NOPASSWD: ")
    return any(fnmatch.fnmatchcase(command, entry) for entry in rule.partition("NOPASSWD: ")[2].split(", "))


@pytest.mark.parametrize(
    "step", [configure(HOST).command, unconfigure(HOST), enrol(HOST).command, confirm(HOST).command]
)
def test_every_step_may_become_root(step: str) -> None:
    program = re.search(r"(?:mktemp |sh )(/[^)\s]+)", step)
    assert program
    path = program[1].replace("XXXXXX", "aZ3xQ9")
    assert allowed(f"/bin/sh {path} as-root")
    assert allowed(f"/bin/sh {path} as-root 420 configure")


def test_the_helper_is_the_one_that_drain_runs() -> None:
    assert allowed(f"/bin/sh {drain(HOST).split()[3].rstrip(';')} as-root 120 drain 10.77.0.21 billing-1")


@pytest.mark.parametrize(
    "command",
    [
        "/bin/sh",
        "/bin/sh -c id",
        "/bin/sh /tmp/other as-root",
        "/bin/sh /tmp/istio-vm-mesh.aZ3xQ9 configure",
        "/bin/sh /usr/local/lib/istio-vm-mesh/host configure",
        "/bin/bash /usr/local/lib/istio-vm-mesh/host as-root",
        "/bin/sh /usr/local/lib/istio-vm-mesh/host.new as-root",
    ],
)
def test_nothing_else_is_allowed(command: str) -> None:
    assert not allowed(command)


def test_a_login_that_would_be_a_rule_of_its_own_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="not a login name"):
        main(["ALL ALL=(ALL) NOPASSWD: ALL\nx"])
    main([])
    assert capsys.readouterr().out == FILE
