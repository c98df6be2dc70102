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
    "stranger": __import__("importlib.util").util.find_spec("language") is not None,
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


@pytest.fixture(scope="module")
def host(plugins: Path, engine: Engine, monitor: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(plugins, engine, monitor, tmp_path_factory.mktemp("project"))
    yield host
    if host.process.returncode is None:
        host.interrupt()


def test_a_program_gets_its_place_its_configuration_and_what_is_told_of_the_run(host: Host) -> None:
    config = {"project:a": "1", "project:b": "hidden"}
    answer = host.run(SHOW, config=config, configSecretKeys=["project:b"], dryRun=True, args=["x"])
    assert (answer.error, answer.bail) == ("", False)
    assert json.loads((host.folder / "seen").read_text()) == {
        "cwd": str(host.folder),
        "argv": [".", "x"],
        "config": ["1", True],
        "project": "project",
        "stack": "dev",
        "organization": "us",
        "dry_run": True,
        "root": str(host.folder),
        "prefix": sys.prefix,
        "path": os.environ.get("PYTHONPATH"),
        "neighbour": True,
        "stranger": False,
    }


def test_an_error_of_the_user_is_shown_without_a_trace(host: Host, engine: Engine) -> None:
    answer = host.run("import pulumi\nraise pulumi.RunError('said by the program')")
    assert (answer.error, answer.bail) == ("program exited with non-zero exit code: 1", False)
    assert "said by the program" in [message.message for message in engine.messages]


def test_an_exception_is_shown_from_the_program_on(host: Host, engine: Engine) -> None:
    answer = host.run("def inner():\n    raise ValueError('oops')\ninner()")
    assert (answer.error, answer.bail) == ("", True)
    (shown,) = (message.message for message in engine.messages if "oops" in message.message)
    lines = shown.splitlines()
    assert lines[:3] == [
        "Program failed with an unhandled exception:",
        "Traceback (most recent call last):",
        f'  File "{host.folder}/__main__.py", line 3, in <module>',
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
def test_a_host_whose_engine_dies_ends_even_if_that_is_before_it_serves(
    plugins: Path, engine: Engine, monitor: str, tmp_path: Path
) -> None:
    host = Host(plugins, engine, monitor, tmp_path)
    assert host.process.stdin is not None
    host.process.stdin.close()
    assert host.process.wait(5) == 0
    host.close()
    command = [plugins / "pulumi-language-python", engine.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as early:
        assert early.stdin is not None and early.stdout is not None
        early.stdin.close()
        early.stdout.close()
        assert early.wait(5) == 0
