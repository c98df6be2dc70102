"""The sudoers file: exactly what the steps ask sudo for, and nothing else that a shell could be made to do."""

import fnmatch
import re
import subprocess
from pathlib import Path

import pytest
from host_program import HOST

from hosts.plan import HELPER, PROGRAM_DIGEST, START_AS_ROOT, configure, confirm, enrol, take_down, uploads
from hosts.sudoers import main, sudoers

FILE = sudoers("deploy")


START = f"/bin/sh -c {START_AS_ROOT} istio-vm-mesh"


def allowed(command: str) -> bool:
    """Whether sudo would run a command line, by its own rule: the path, then the arguments as one pattern."""
    (rule,) = [line for line in FILE.splitlines() if "NOPASSWD" in line]
    assert rule.startswith("deploy ALL=(root) NOPASSWD: ")
    entries = [re.sub(r"\\([,:=])", r"\1", entry) for entry in rule.partition("NOPASSWD: ")[2].split(", ")]
    return any(fnmatch.fnmatchcase(command, entry) for entry in entries)


def test_the_steps_may_become_root() -> None:
    for step in (enrol(HOST).command, confirm(HOST).command, take_down("10.77.0.21", "billing-1")):
        assert f"sh {HELPER} " in step
    assert allowed(f"/bin/sh {HELPER} as-root")
    assert allowed(f"/bin/sh {HELPER} as-root 180 remove 10.77.0.21 billing-1")


def test_what_configure_asks_sudo_for_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "sudo").write_text('#!/bin/sh\nshift\nprintf "%s\\n" "$*" >>"$0.log"\n')
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    for tool in tmp_path.iterdir():
        tool.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["sh", "-c", configure(HOST).command], env=environment, check=True, timeout=10)
    asked = (tmp_path / "sudo.log").read_text().splitlines()
    assert asked == [f"{START} {PROGRAM_DIGEST}", f"{START} {PROGRAM_DIGEST} {uploads(HOST)[0].path}"]
    assert all(map(allowed, asked))


def test_nothing_in_it_is_special_to_sudoers() -> None:
    """But for `,`, `:` and `=`, which are escaped; and sudo takes blanks in a row for one."""
    assert not set(START_AS_ROOT) & set("*?[]!#\\\n\t")
    assert "  " not in START_AS_ROOT


@pytest.mark.parametrize(
    "command",
    [
        "/bin/sh",
        "/bin/sh -c id",
        "/bin/sh /tmp/other as-root",
        "/bin/sh -c id istio-vm-mesh",
        f"{START.replace('configure', 'anything')} x",
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
