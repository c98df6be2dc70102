"""Real Pulumi programs, run by the engine on a provider whose objects are files."""

from __future__ import annotations

import functools
import io
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_provider import FakeProvider
from zygote import ForkedProgram, request

from lab.engine.display import Display
from lab.engine.engine import Engine

HERE = Path(__file__).parent

SDK = """
import pulumi
from pulumi import ResourceOptions as Opts

class Thing(pulumi.CustomResource):
    out: pulumi.Output
    token: pulumi.Output

    def __init__(self, name, opts=None, **props):
        super().__init__("fake:index:Thing", name, {"out": None, "token": None, **props}, opts)

class Other(pulumi.CustomResource):
    def __init__(self, name, opts=None):
        super().__init__("fake:index:Unheard", name, {}, opts)

class Provider(pulumi.ProviderResource):
    def __init__(self, name, opts=None, **props):
        super().__init__("fake", name, props, opts)

class Group(pulumi.ComponentResource):
    def __init__(self, name, props=None, opts=None, type_="demo:index:Group"):
        super().__init__(type_, name, props or {}, opts)
        self.child = Opts(parent=self)

class Chart(pulumi.ComponentResource):
    def __init__(self, name, props, opts=None):
        super().__init__("fake:index:Chart", name, {"resources": None, **props}, opts, remote=True)

phase = pulumi.Config().get("phase") or "1"
"""


class Result:
    """What one run said."""

    def __init__(self, good: bool, display: Display, text: str) -> None:
        self.good, self.text = good, text
        self.steps = [(step.op, step.urn.rpartition("::")[2]) for step in display.steps]
        self.changes = [(op, name) for op, name in self.steps if op not in ("same", "read")]
        self.errors = [
            (urn.rpartition("::")[2], text) for severity, urn, text in display.messages if severity == "error"
        ]
        self.warnings = [text for severity, _, text in display.messages if severity == "warning"]
        self.skipped = {urn.rpartition("::")[2]: because for urn, because in display.skipped.items()}
        self.display = display


class Stack:
    """A project in a folder of its own, with the world that it changes."""

    def __init__(self, folder: Path, address: str) -> None:
        self.directory, self.world, self.address = folder / "project", folder / "world", address
        self.outputs: list[int] = []
        """Of runs in the background; open as long as they run, since one that prints to nobody fails."""
        self.directory.mkdir()
        self.world.mkdir()
        (self.directory / "fake_sdk.py").write_text(SDK)
        (self.directory / "Pulumi.yaml").write_text(
            "name: demo\nruntime: python\nconfig:\n  phase: {type: string, default: '1'}\n"
            "  password: {type: string, secret: true, default: correct-horse}\n"
        )
        self.program("")
        self.phase("1")

    @property
    def engine(self) -> Engine:
        return Engine(
            self.directory,
            "dev",
            packages={"fake": functools.partial(FakeProvider, self.world)},
            launch=lambda: ForkedProgram(self.address),
        )

    def program(self, source: str) -> None:
        (self.directory / "__main__.py").write_text("from fake_sdk import *\n" + textwrap.dedent(source))

    def phase(self, phase: str) -> None:
        (self.directory / "Pulumi.dev.yaml").write_text(json.dumps({"config": {"demo:phase": phase}}))

    def run(self, command: str, phase: str = "", **options: Any) -> Result:
        if phase:
            self.phase(phase)
        (self.world / "calls").write_text("")
        out = io.StringIO()
        display = Display(out, **options)
        display.live = command != "preview"
        good = getattr(self.engine, command)(display)
        return Result(good, display, out.getvalue())

    def up(self, phase: str = "", **options: Any) -> Result:
        return self.run("up", phase, **options)

    def preview(self, phase: str = "", **options: Any) -> Result:
        return self.run("preview", phase, **options)

    def destroy(self) -> Result:
        return self.run("destroy")

    def calls(self) -> list[str]:
        """What reached the provider in the last run, without the beginnings."""
        return [line for line in self.lines() if not line.startswith("create-begin")]

    def lines(self) -> list[str]:
        """What reached the provider in the last run."""
        path = self.world / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def objects(self) -> dict[str, dict[str, Any]]:
        """Every object that exists, by name; two of one name are a failure of the test."""
        found = [json.loads(path.read_text()) for path in self.world.glob("*.json")]
        names = [item["name"] for item in found]
        assert len(names) == len(set(names)), names
        return dict(zip(names, found, strict=True))

    def objects_named(self, name: str) -> int:
        return sum(json.loads(path.read_text())["name"] == name for path in self.world.glob("*.json"))

    def records(self) -> dict[str, Any]:
        """The state file's resources, by name and whether they wait to be deleted."""
        data = json.loads((self.engine.state / "dev.json").read_text())
        return {record["urn"].rpartition("::")[2]: record for record in data["resources"].values()}

    def in_background(self, command: str, until: Callable[[], bool]) -> int:
        """Start a command in a process of its own, wait for something to be true, return its pid."""
        arguments = {
            "command": command,
            "directory": str(self.directory),
            "world": str(self.world),
            "address": self.address,
        }
        connection, reader = request(self.address, "engine", arguments)
        pid = int(connection.recv(64))
        deadline = time.monotonic() + 20
        while not until():
            assert time.monotonic() < deadline, os.read(reader, 65536).decode()
            time.sleep(0.005)
        self.outputs.append(reader)
        connection.close()
        return pid


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    address = str(tmp_path_factory.mktemp("zygote") / "socket")
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parents[1]}:{HERE}"}
    process = subprocess.Popen([sys.executable, str(HERE / "zygote.py"), address], env=environment)
    while not Path(address).exists():
        assert process.poll() is None
        time.sleep(0.01)
    yield address
    process.kill()
    process.wait()


@pytest.fixture
def stack(tmp_path: Path, zygote: str) -> Iterator[Stack]:
    stack = Stack(tmp_path, zygote)
    yield stack
    for output in stack.outputs:
        os.close(output)
