"""What all models of the configuration share."""

import ast
import functools
import inspect
import itertools
import textwrap
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """What all parts of the configuration share: strict, frozen, camelCase keys, no unknown ones."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        strict=True,
        defer_build=True,
        hide_input_in_errors=True,
    )

    later: ClassVar[frozenset[str]] = frozenset()
    """Keys of the configuration's contract that this version refuses by name."""
    refused: ClassVar[Mapping[str, tuple[str, str]]] = {}
    """Keys that will never be taken: why, and what would be right."""

    @model_validator(mode="before")
    @classmethod
    def _empty_means_absent(cls, data: Any) -> Any:
        """Take a known key without a value (`kubeconfig: ~`) for one that is not there."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in _known(cls)}

    @classmethod
    def meaning(cls, name: str) -> str:
        """What the docstring below a field says.

        It is read from the source when it is asked for: pydantic's own `use_attribute_docstrings` reads all of them in
        every run, which takes 0.15 s.
        """
        owner = next(base for base in cls.__mro__ if name in inspect.get_annotations(base))
        return _attribute_docstrings(owner)[name]


@functools.cache
def _known(model: type[Model]) -> frozenset[str | None]:
    return model.later | model.refused.keys() | {field.alias for field in model.model_fields.values()}


@functools.cache
def _attribute_docstrings(owner: type) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, below in itertools.pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            found[field.target.id] = inspect.cleandoc(ast.literal_eval(below.value))
    return found
