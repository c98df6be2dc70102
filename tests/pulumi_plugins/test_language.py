"""The language host: how a program is run, what it gets, and what the engine hears of its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from plugin_client import Engine, Plugin, only_ours
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, resource_pb2, resource_pb2_grpc

SHOW = """
import json, os, sys, pulumi
conf = pulumi.Config()
seen = {
    "cwd": os.getcwd(), "argv": sys.argv, "config": [conf.require("a"), conf.get_secret("b") is not None],
    "project": pulumi.get_project(), "stack": pulumi.get_stack(), "organization": pulumi.get_organization(),
    "dry_run": pulumi.runtime.is_dry_run(), "root": pulumi.runtime.get_root_directory(), "prefix": sys.prefix,
    "path": os.environ.get("PYTHONPATH"), "neighbour": __import__("neighbour").here,
}
open("seen", "w").write(json.dumps(seen))
"""


class Monitor(resource_pb2_grpc.ResourceMonitorServicer):
    """As much of the engine's resource monitor as a program without resources needs."""

    def SupportsFeature(self, request: Any, context: Any) -> Any:
        return resource_pb2.SupportsFeatureResponse(hasSupport=False)

    def RegisterResource(self, request: Any, context: Any) -> Any:
        return resource_pb2.RegisterResourceResponse(urn=f"urn:pulumi:dev::project::{request.type}::{request.name}")

    def RegisterResourceOutputs(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def SignalAndWaitForShutdown(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()


@pytest.fixture(scope="module")
def monitor() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(Monitor(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


class Host(Plugin):
    """A language host with a project in a folder."""

    def __init__(self, plugins: Path, engine: Engine, monitor: str, folder: Path) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        super().__init__(plugins / "pulumi-language-python", engine, PATH=path)
        self.stub = language_pb2_grpc.LanguageRuntimeStub(self.channel)
        self.monitor, self.folder = monitor, folder

    def run(self, program: str, **more: Any) -> Any:
        (self.folder / "__main__.py").write_text(program)
        (self.folder / "neighbour.py").write_text("here = True")
        folder = str(self.folder)
        info = language_pb2.ProgramInfo(root_directory=folder, program_directory=folder, entry_point=".")
        request = language_pb2.RunRequest(
            project="project", stack="dev", organization="us", pwd=folder, parallel=4, info=info, **more
        )
        request.monitor_address = self.monitor
        return self.stub.Run(request, timeout=30)


@pytest.fixture
def host(plugins: Path, engine: Engine, monitor: str, tmp_path: Path) -> Iterator[Host]:
    host = Host(plugins, engine, monitor, tmp_path)
    yield host
    if host.process.returncode is None:
        host.interrupt()


def test_a_program_gets_its_place_its_configuration_and_what_is_told_of_the_run(host: Host, tmp_path: Path) -> None:
    config = {"project:a": "1", "project:b": "hidden"}
    answer = host.run(SHOW, config=config, configSecretKeys=["project:b"], dryRun=True, args=["x"])
    assert (answer.error, answer.bail) == ("", False)
    assert json.loads((tmp_path / "seen").read_text()) == {
        "cwd": str(tmp_path),
        "argv": [".", "x"],
        "config": ["1", True],
        "project": "project",
        "stack": "dev",
        "organization": "us",
        "dry_run": True,
        "root": str(tmp_path),
        "prefix": sys.prefix,
        "path": os.environ.get("PYTHONPATH"),
        "neighbour": True,
    }


def test_a_host_runs_one_program_after_the_other(host: Host, engine: Engine) -> None:
    assert host.run("").error == ""
    answer = host.run("import pulumi\nraise pulumi.RunError('said by the program')")
    assert (answer.error, answer.bail) == ("program exited with non-zero exit code: 1", False)
    assert engine.messages[-1].message == "said by the program"


def test_an_exception_is_shown_from_the_program_on(host: Host, engine: Engine, tmp_path: Path) -> None:
    answer = host.run("def inner():\n    raise ValueError('oops')\ninner()")
    assert (answer.error, answer.bail) == ("", True)
    lines = engine.messages[-1].message.splitlines()
    assert lines[:3] == [
        "Program failed with an unhandled exception:",
        "Traceback (most recent call last):",
        f'  File "{tmp_path}/__main__.py", line 3, in <module>',
    ]
    assert lines[-1] == "ValueError: oops"


def test_a_program_that_ends_itself(host: Host) -> None:
    assert host.run("import sys; sys.exit(4)").error == "program exited with non-zero exit code: 4"


@only_ours  # the published host gives it five seconds
def test_a_cancelled_program_ends_and_so_does_one_whose_host_is_interrupted(host: Host, tmp_path: Path) -> None:
    waits = f"import os, time\nopen('{tmp_path}/pid', 'w').write(str(os.getpid()))\ntime.sleep(60)"
    for end in (lambda: host.stub.Cancel(empty_pb2.Empty()), host.interrupt):
        (tmp_path / "pid").unlink(missing_ok=True)

        def run() -> None:
            try:
                host.run(waits)
            except (grpc.RpcError, ValueError):
                return

        running = threading.Thread(target=run)
        running.start()
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.02)
        end()
        running.join(10)
        pid, deadline = int((tmp_path / "pid").read_text()), time.monotonic() + 10
        while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
            assert time.monotonic() < deadline, "the program outlives its run"
            time.sleep(0.02)


@only_ours
def test_a_host_whose_engine_was_killed_ends(plugins: Path, engine: Engine) -> None:
    script = f"{plugins}/pulumi-language-python {engine.address} & echo $!; wait"
    with subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        host, port = int(killed.stdout.readline()), int(killed.stdout.readline())
        assert port
        killed.kill()
        deadline = time.monotonic() + 10
        while Path(f"/proc/{host}").exists() and "Z" not in Path(f"/proc/{host}/stat").read_text().split()[2]:
            assert time.monotonic() < deadline, "the host outlives its engine"
            time.sleep(0.02)
