"""YAML as Pulumi reads it (YAML 1.2 booleans and numbers, no key twice), so that all readers see the same values."""

import re
from typing import Any

import yaml


class _KeysOnce(yaml.constructor.SafeConstructor):
    """Refuses a key that stands in a mapping twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping, which must have each key once."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1 and key != "<<":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key} stands there twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


class _Loader(_KeysOnce, yaml.CSafeLoader):
    """YAML as Pulumi reads it."""


class _SlowLoader(_KeysOnce, yaml.SafeLoader):
    """The same, ten times slower, with messages that show the line that is wrong."""


_Loader.yaml_implicit_resolvers = _SlowLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+|0[0-7]+)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)


def load_yaml(text: str) -> Any:
    """Return what a YAML text holds, read as Pulumi reads it."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError):
        return yaml.load(text, Loader=_SlowLoader)
