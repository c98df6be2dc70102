"""The two ways in: Pulumi's own configuration, and a stack's file read as Pulumi reads it."""

import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from pulumi.runtime import config as runtime
from settings_samples import PRIVATE_KEY

from settings import SettingsError, from_stack_file, load, parse
from settings.yaml_text import load_yaml

NAME = "istio-vm-mesh"


@pytest.fixture
def in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run as a program of this project does."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(pulumi.Config, "__init__", lambda self, name=NAME: setattr(self, "name", name))
    config, secrets = runtime.CONFIG.set({}), runtime._SECRET_KEYS.set(set())
    yield
    runtime.CONFIG.reset(config)
    runtime._SECRET_KEYS.reset(secrets)


def as_pulumi(stack: dict[str, Any]) -> dict[str, str]:
    """Return a stack's values as Pulumi hands them over: text, objects as JSON."""
    return {f"{NAME}:{key}": value if isinstance(value, str) else json.dumps(value) for key, value in stack.items()} | {
        "pulumi:tags": "{}",
        "kubernetes:context": "other",
    }


def by_environment(monkeypatch: pytest.MonkeyPatch, config: dict[str, str], secrets: list[str]) -> None:
    monkeypatch.setenv("PULUMI_CONFIG", json.dumps(config))
    monkeypatch.setenv("PULUMI_CONFIG_SECRET_KEYS", json.dumps(secrets))


def by_call(monkeypatch: pytest.MonkeyPatch, config: dict[str, str], secrets: list[str]) -> None:
    runtime.set_all_config(config, secrets)


@pytest.fixture(params=[by_environment, by_call])
def configure(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, in_project: None) -> Callable[..., None]:
    """Hand a stack over as the CLI does (environment) or as an embedded engine does (call)."""
    return lambda config, *secrets: request.param(monkeypatch, config, [f"{NAME}:{key}" for key in secrets])


def test_load(stack: dict[str, Any], project: Path, configure: Callable[..., None]) -> None:
    configure(as_pulumi({**stack, "sshPrivateKey": ""}))
    assert load() == parse(stack, project_dir=project)


def test_load_with_a_secret_key(stack: dict[str, Any], configure: Callable[..., None]) -> None:
    del stack["hosts"]["ssh"]["privateKeyFile"]
    configure(as_pulumi({**stack, "sshPrivateKey": PRIVATE_KEY}), "sshPrivateKey")
    assert load().connections["billing-1"].private_key.get_secret_value() == PRIVATE_KEY


def test_load_tells_every_problem_without_a_traceback(stack: dict[str, Any], configure: Callable[..., None]) -> None:
    del stack["hosts"]["ssh"]["privateKeyFile"]
    stack |= {"cluster": "prod", "workload": {}, "istio": {"version": 1.31}, "sshPrivateKey": PRIVATE_KEY}
    configure(as_pulumi(stack), "istio")
    with pytest.raises(pulumi.RunError) as error:
        load()
    assert str(error.value).splitlines() == [
        "the configuration has 5 problems:",
        "  istio: holds a secret, but is shown in plans, only sshPrivateKey is kept secret",
        "  sshPrivateKey: not encrypted, pulumi config set --secret sshPrivateKey, and a new key pair",
        '  cluster: not a mapping (got "prod"), keys with values, as in {name: value}',
        "  istio.version: not text, text; put it in quotes where YAML would read it as something else",
        '  workload: unknown key (got "workload"), did you mean workloads?',
    ]


@pytest.fixture
def stack_file(project: Path, tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Write a stack's file beside the project's files."""

    def write(config: dict[str, Any]) -> Path:
        (project / "Pulumi.yaml").write_text(f"name: {NAME}\nconfig: {{workloads: {{type: object, default: {{}}}}}}\n")
        path = project / "Pulumi.test.yaml"
        path.write_text(yaml.safe_dump({"config": config}))
        return path

    return write


def test_from_stack_file(stack: dict[str, Any], project: Path, stack_file: Callable[..., Path]) -> None:
    short, *rest = stack
    config = {short: stack[short], **{f"{NAME}:{key}": stack[key] for key in rest}, "pulumi:tags": {"a": "b"}}
    assert from_stack_file(stack_file(config)) == parse(stack, project_dir=project)
    del config[f"{NAME}:workloads"]
    assert from_stack_file(stack_file(config), project / "Pulumi.yaml").workloads == {}


def test_from_stack_file_with_an_encrypted_key(stack: dict[str, Any], stack_file: Callable[..., Path]) -> None:
    del stack["hosts"]["ssh"]["privateKeyFile"]
    settings = from_stack_file(stack_file({**stack, "sshPrivateKey": {"secure": "v1:abc"}}))
    assert {c.private_key.get_secret_value() for c in settings.connections.values()} == {""}


def test_a_stack_file_keeps_secrets_in_one_place(stack: dict[str, Any], stack_file: Callable[..., Path]) -> None:
    del stack["hosts"]["ssh"]["privateKeyFile"]
    stack["hosts"]["ssh"]["user"] = {"secure": "v1:abc"}
    with pytest.raises(SettingsError) as error:
        from_stack_file(stack_file({**stack, "sshPrivateKey": PRIVATE_KEY}))
    assert [str(problem) for problem in error.value.problems] == [
        "hosts: holds a secret, but is shown in plans, only sshPrivateKey is kept secret",
        "sshPrivateKey: not encrypted, pulumi config set --secret sshPrivateKey, and a new key pair",
        "hosts.ssh.user: not text, text; put it in quotes where YAML would read it as something else",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "no such file"),
        ("- a\n", "not a mapping"),
        ("config: {a: [\n", "expected the node content, but found '<stream end>'"),
        ("config:\n  a: {b: 1, b: 2}\n", "the key b stands there twice"),
        ("? [a]\n: b\n", "found unhashable key"),
    ],
)
def test_a_stack_file_that_cannot_be_read(text: str | None, what: str, tmp_path: Path) -> None:
    (tmp_path / "Pulumi.yaml").write_text(f"name: {NAME}\n")
    path = tmp_path / "Pulumi.test.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError) as error:
        from_stack_file(path)
    (problem,) = error.value.problems
    assert problem.path == str(path)
    assert what in problem.what
    assert "\n" not in str(problem)


def test_yaml_is_read_as_pulumi_reads_it() -> None:
    text = """
        version: 1.31.1
        yes: yes
        on: off
        true: true
        none: ~
        number: 8080
        hex: 0x10
        ratio: 1.5
        time: 12:30:45
        date: 2026-01-01
        base: &base {a: 1}
        merged: {<<: *base, b: 2}
    """
    assert load_yaml(textwrap.dedent(text)) == {
        "version": "1.31.1",
        "yes": "yes",
        "on": "off",
        True: True,
        "none": None,
        "number": 8080,
        "hex": 16,
        "ratio": 1.5,
        "time": "12:30:45",
        "date": "2026-01-01",
        "base": {"a": 1},
        "merged": {"a": 1, "b": 2},
    }
