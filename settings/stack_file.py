"""Reads a stack's configuration from its file, for commands that run outside of Pulumi.

YAML is read as Pulumi reads it (YAML 1.2 booleans and numbers, no key twice), so both see the same values.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from settings import files
from settings.parsing import parse
from settings.problems import Problem, Refused, SettingsError
from settings.result import Settings

SECRET = "sshPrivateKey"
"""The one key that is kept encrypted."""


class _Loader(yaml.SafeLoader):
    """YAML as Pulumi reads it."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping, which must have each key once."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1 and key != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key} stands there twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+|0[0-7]+)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)


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


def load_yaml(text: str) -> Any:
    """Return what a YAML text holds, read as Pulumi reads it."""
    return yaml.load(text, Loader=_Loader)


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
