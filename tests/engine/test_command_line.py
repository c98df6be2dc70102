"""The commands as people run them, the program in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def engine(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lab.engine", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_commands_and_their_exit_codes(tmp_path):
    (tmp_path / "Pulumi.yaml").write_text("name: demo\nmain: program\nconfig:\n  who: {type: object}\n")
    (tmp_path / "Pulumi.dev.yaml").write_text("config:\n  demo:who: {name: x, n: [1]}\n")
    (tmp_path / "program").mkdir()
    (tmp_path / "program" / "helper.py").write_text("NAME = 'from beside'\n")
    (tmp_path / "program" / "__main__.py").write_text(
        "import os, sys, helper, pulumi\n"
        "assert not any(path.endswith('lab/engine') for path in sys.path)\n"
        "pulumi.ComponentResource('demo:index:C', 'c')\n"
        "pulumi.export('who', pulumi.Config().require_object('who'))\n"
        "pulumi.export('helper', helper.NAME)\n"
        "print('a line', pulumi.get_stack(), pulumi.get_project(), pulumi.get_organization())\n"
        "if os.environ.get('BREAK'): raise pulumi.RunError('no good')\n"
    )
    up = engine(tmp_path, "up", "--stack", "dev")
    assert (up.returncode, up.stderr) == (0, "")
    assert "a line dev demo organization\n" in up.stdout
    assert " +  created      demo:index:C c" in up.stdout
    outputs = engine(tmp_path, "outputs", "--stack", "dev")
    assert json.loads(outputs.stdout) == {"who": {"name": "x", "n": [1]}, "helper": "from beside"}
    os.environ["BREAK"] = "1"
    try:
        broken = engine(tmp_path, "preview", "--stack", "dev", "--json")
    finally:
        del os.environ["BREAK"]
    assert broken.returncode == 1
    digest = json.loads(broken.stdout)
    assert [item["message"] for item in digest["diagnostics"]] == ["a line dev demo organization", "no good"]
    missing = engine(tmp_path, "up", "--stack", "other")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == f"error: {tmp_path}/Pulumi.other.yaml does not exist\n"
    assert engine(tmp_path, "destroy", "--stack", "dev").stdout.splitlines()[-1].startswith("Resources: 2 deleted")
