"""Reads Pulumi.yaml and Pulumi.<stack>.yaml into what the SDK gets: text by key, objects as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

YAML_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ConfigError(Exception):
    """The project's or the stack's file is not usable; every problem at once."""


@dataclass(frozen=True)
class Project:
    """A project with the configuration of one stack."""

    name: str
    directory: Path
    main: Path
    config: dict[str, str] = field(default_factory=dict)
    secret_keys: tuple[str, ...] = ()


def load(directory: Path, stack: str, stack_file: Path | None = None) -> Project:
    """Read both files, or raise ConfigError; `stack_file` stands in for Pulumi.<stack>.yaml where it is given."""
    project = _read(directory / "Pulumi.yaml")
    name, declared = str(project.get("name", "")), project.get("config") or {}
    given: dict[str, Any] = _read(stack_file or directory / f"Pulumi.{stack}.yaml").get("config") or {}
    values: dict[str, Any] = {}
    secret_keys: list[str] = []
    problems: list[str] = []
    for short, schema in declared.items():
        key = short if ":" in short else f"{name}:{short}"
        schema = schema if isinstance(schema, dict) else {"default": schema}
        value = given.get(key, schema.get("value", schema.get("default")))
        if value is None and "value" not in schema and "default" not in schema:
            problems.append(f"{key}: missing; Pulumi.yaml declares it without a default")
        elif value is not None:
            values[key] = value
        if schema.get("secret"):
            secret_keys.append(key)
    values |= {key: value for key, value in given.items() if key not in values}
    problems += [
        f"{key}: is encrypted (`secure`), which only the pulumi CLI can read; use it (ENGINE=pulumi), or for the lab "
        "give the value as a file that is not committed"
        for key, value in values.items()
        if _encrypted(value)
    ]
    problems += [f"{key}: must be one of the project's own keys, `{name}:...`" for key in values if not _own(key, name)]
    if problems:
        raise ConfigError("configuration of stack {}:\n{}".format(stack, "\n".join(f"  {text}" for text in problems)))
    main = directory / (project.get("main") or ".")
    main = main / "__main__.py" if main.is_dir() else main
    text = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    return Project(name, directory, main, text, tuple(secret_keys))


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text(), YAML_LOADER) or {}
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} must be a mapping")
    return data


def _own(key: str, project: str) -> bool:
    return key.startswith(f"{project}:")


def _encrypted(value: Any) -> bool:
    if isinstance(value, dict):
        return set(value) == {"secure"} or any(_encrypted(item) for item in value.values())
    return isinstance(value, list) and any(_encrypted(item) for item in value)
