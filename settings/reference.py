"""Writes the configuration reference from the models: `python -m settings.reference > docs/configuration.md`.

Descriptions are the models' attribute docstrings, so the reference cannot say anything that the program does not.
"""

import json
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from settings.model import Model
from settings.models import StackConfig
from settings.scalars import Kind

PROJECT = "istio-vm-mesh"
_PLAIN = {str: "text", int: "a whole number", bool: "true or false", Any: "any value"}
_HEAD = f"""# Configuration

Made from the models in `settings/` by `make docs`; do not edit.

All keys stand below `config:` in the stack's file `Pulumi.<stack>.yaml`, each top-level key as `{PROJECT}:<key>`.
[`Pulumi.example.yaml`](../Pulumi.example.yaml) is a commented production stack, [`Pulumi.dev.yaml`](../Pulumi.dev.yaml)
the lab's.

- Unknown and misspelt keys are errors. All problems are told at once, each as `path: what is wrong (got ...), what
  would be right`.
- A known key without a value (`kubeconfig: ~`) counts as not given.
- Values are strict: text that YAML reads as something else needs quotes (`"1.31"`), numbers and `true` have none.
- Paths are relative to the project's folder.
- Names are the keys of maps, so adding a workload or a VM renames nothing.
- Keys that later versions will support are refused by name.
"""


def reference() -> str:
    """Return the configuration reference as Markdown."""
    return "\n".join([_HEAD, *_sections("", StackConfig, {})])


def _sections(path: str, model: type[Model], places: dict[type[Model], str]) -> Iterator[str]:
    """Yield the table of a model, then those of the models below it that have no table yet."""
    yield f"## {f'`{path}`' if path else 'Top level'}\n"
    yield f"{_cell(model.__doc__)}\n"
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    below: list[tuple[str, type[Model]]] = []
    for name, field in model.model_fields.items():
        kind, inner = _kind(field.annotation, field.metadata)
        if inner is not None:
            suffix, part = inner
            if part not in places:
                places[part] = f"{path}.{field.alias}{suffix}".lstrip(".")
                below.append((places[part], part))
            kind = f"[{kind}](#{_anchor(places[part])})"
        yield f"| `{field.alias}` | {kind} | {_default(field)} | {_cell(model.meaning(name))} |"
    if model.later:
        yield f"\nNot supported yet: {', '.join(f'`{key}`' for key in sorted(model.later))}."
    yield ""
    for place, part in below:
        yield from _sections(place, part, places)


def _kind(annotation: Any, metadata: Sequence[Any] = ()) -> tuple[str, tuple[str, type[Model]] | None]:
    """Return what a type is called, and the model that describes its inside, with where that stands."""
    for mark in metadata:
        if isinstance(mark, Kind) and get_origin(annotation) not in (Literal, Mapping) and annotation is not bool:
            return mark.name, None
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(parts[0], annotation.__metadata__)
    if origin in (Union, types.UnionType):
        return _kind(next(part for part in parts if part is not type(None)))
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts), None
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return "mapping", ("", annotation)
    inner = _kind(parts[-1]) if origin else ("", None)
    if origin is Mapping:
        key = _kind(parts[0])[0].removeprefix("a ").removeprefix("an ")
        return f"map: {key} to {inner[0]}", inner[1] and (".<name>", inner[1][1])
    if origin is Sequence:
        return f"list of {inner[0]}", inner[1] and ("[]", inner[1][1])
    return _PLAIN.get(annotation, "secret text"), None


def _default(field: FieldInfo) -> str:
    """Return a field's default as a stack file would write it."""
    if field.is_required():
        return "**required**"
    if field.default is None or field.default == {}:
        return "none"
    if isinstance(field.default, Model):
        return "its defaults"
    return f"`{field.default if isinstance(field.default, str) and field.default else json.dumps(field.default)}`"


def _cell(text: str | None) -> str:
    """Return a text on one line, safe in a table."""
    return " ".join((text or "").split()).replace("|", r"\|")


def _anchor(path: str) -> str:
    """Return the fragment that Markdown gives to a heading."""
    return "".join(char for char in path.lower() if char.isalnum() or char in "-_")


if __name__ == "__main__":
    sys.stdout.write(reference())
