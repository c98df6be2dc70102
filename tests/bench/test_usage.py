"""What a program and all that it leaves behind use, measured on real processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench.measure import Usage
from bench.usage import role

WORK = """
import time
memory = bytearray(60_000_000)
while time.process_time() < 0.3: pass
time.sleep(0.9)
"""


def test_what_is_left_behind_counts_too(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(WORK)
    leave = f"setsid {sys.executable} {tmp_path}/program.py & cat; exit 3"
    used = Usage()
    done = used.run(["sh", "-c", leave], seconds=60, cwd=tmp_path, env=os.environ, stdin="given")
    assert (done.returncode, done.stdout) == (3, "given")
    assert 0.3 <= used.cpu < 2
    assert used.peaks["program"] > 60
    assert used.aside > 0.4, "the time of who was left behind is not the program's"


def test_usages_add_up(tmp_path: Path) -> None:
    used = Usage()
    for _ in range(2):
        work = [sys.executable, "-c", "import time\nwhile time.process_time() < 0.2: pass"]
        used.run(work, seconds=60, cwd=tmp_path, env=os.environ)
    assert 0.4 <= used.cpu < 2


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["pulumi", "up", "--stack", "dev"], "engine"),
        (["/opt/bin/pulumi", "up"], "engine"),
        (["/plugins/pulumi-resource-kubernetes", "127.0.0.1:1"], "kubernetes provider"),
        (["/venv/bin/python", "/checkout/lab/pulumi/program.py"], "program"),
        (["python3", "-u", "/bin/pulumi-language-python-exec", "--monitor"], "program"),
        (["pulumi-resource-command", "127.0.0.1:1"], "other"),
    ],
)
def test_processes_by_role(argv: list[str], expected: str) -> None:
    assert role(argv) == expected
