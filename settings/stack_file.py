"""Reads a stack's configuration from its file, for commands that run outside of Pulumi."""

from pathlib import Path
from typing import Any

import yaml

from settings import files
from settings.parsing import parse
from settings.problems import Problem, Refused, SettingsError
from settings.result import Settings
from settings.yaml_text import load_yaml

SECRET = "sshPrivateKey"
"""The one key that is kept encrypted."""


def from_stack_file(path: Path, project_file: Path | None = None) -> Settings:
    """Return the settings that a stack's file holds; a private key that is encrypted there stays empty.

    Args:
        path: The stack's file, as `Pulumi.dev.yaml`.
        project_file: `Pulumi.yaml`; by default the one beside the stack's file.

    Raises:
        SettingsError: With every problem.
    """
    project_file = project_file or path.parent / "Pulumi.yaml"
    project, stack = _mapping(project_file), _mapping(path)
    prefix = f"{project.get('name')}:"
    raw: dict[str, Any] = {}
    for key, declared in _config(project).items():
        if isinstance(declared, dict) and declared.get("default") is not None:
            raw[key.removeprefix(prefix)] = declared["default"]
    for key, value in _config(stack).items():
        if key.startswith(prefix) or ":" not in key:
            raw[key.removeprefix(prefix)] = value
    sealed = frozenset(key for key, value in raw.items() if _holds_secret(value))
    found = [misplaced(key) for key in sorted(sealed - {SECRET})]
    if SECRET in sealed:
        del raw[SECRET]
    elif raw.get(SECRET):
        found.append(unencrypted())
    return parse(raw, project_dir=project_file.parent, sealed=sealed, found=found)


def misplaced(key: str) -> Problem:
    """Return the problem of a key that holds a secret, though its values go into plain sight."""
    return Problem(path=key, what="holds a secret, but is shown in plans", right=f"only {SECRET} is kept secret")


def unencrypted() -> Problem:
    """Return the problem of a private key in plain text."""
    return Problem(path=SECRET, what="not encrypted", right=f"pulumi config set --secret {SECRET}, and a new key pair")


def _mapping(path: Path) -> dict[str, Any]:
    """Return a YAML file's top-level mapping."""
    try:
        content = load_yaml(files.read(path))
    except Refused as refused:
        problem = Problem(path=str(path), what=refused.what, right=refused.right)
    except (yaml.YAMLError, ValueError) as error:
        problem = Problem(path=str(path), what=" ".join(str(error).split()), right="correct the YAML")
    else:
        if isinstance(content, dict):
            return content
        problem = Problem(path=str(path), what="not a mapping", right="a file as Pulumi writes it")
    raise SettingsError([problem])


def _config(content: dict[str, Any]) -> dict[str, Any]:
    """Return the section `config` of a project's or stack's file."""
    config = content.get("config")
    return {str(key): value for key, value in config.items()} if isinstance(config, dict) else {}


def _holds_secret(value: Any) -> bool:
    """Return whether a value of a stack file is encrypted, or holds one that is."""
    if isinstance(value, dict):
        return set(value) == {"secure"} or any(_holds_secret(inner) for inner in value.values())
    return isinstance(value, list) and any(_holds_secret(inner) for inner in value)
