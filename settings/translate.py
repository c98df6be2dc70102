"""Turns what pydantic reports about the models into `Problem`s that speak of the stack file, not of the models."""

import difflib
import re
import types
from collections.abc import Iterator, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from settings.model import Model
from settings.problems import UNSHOWN, Problem, join

_KEY_MARK = "[key]"
"""What pydantic ends the location of a mapping's bad key with."""
_KINDS = {
    "string_type": ("not text", "text; put it in quotes where YAML would read it as something else"),
    "int_type": ("not a whole number", "a whole number without quotes"),
    "bool_type": ("not true or false", "true or false without quotes"),
    "dict_type": ("not a mapping", "keys with values, as in {name: value}"),
    "mapping_type": ("not a mapping", "keys with values, as in {name: value}"),
    "model_type": ("not a mapping", "keys with values, as in {name: value}"),
    "sequence_str": ("not a list", "a list, as in [a, b]"),
    "is_instance_of": ("not a list", "a list, as in [a, b]"),
    "string_unicode": ("not text that can be written", "text without lone surrogates"),
    "invalid_key": ("not a key", "text; put it in quotes where YAML would read it as something else"),
    "string_too_short": ("empty", "some text, or leave the key out"),
    "too_short": ("empty", "at least one entry, or leave the key out"),
}


def problems_of(error: ValidationError, model: type[Model]) -> Iterator[Problem]:
    """Yield what is wrong with data that should have been a `model`."""
    for detail in error.errors(include_url=False):
        yield _problem(detail, model)


def _problem(detail: ErrorDetails, model: type[Model]) -> Problem:
    """Return one of pydantic's errors as a problem."""
    kind, location, got = detail["type"], detail["loc"], detail.get("input", UNSHOWN)
    if location[-1:] == (_KEY_MARK,) and kind != "extra_forbidden":
        location = location[:-1]
    path = join(*location)
    context = detail.get("ctx", {})
    if kind == "missing":
        return Problem(path=path, what="missing", right=f"give it: {_meaning(model, location)}")
    if kind == "extra_forbidden":
        return _extra(path, str(location[-1]), model_at(model, location[:-1]))
    if kind == "wrong":
        got = UNSHOWN if isinstance(got, dict | BaseModel) else got
        return Problem(path=path, what=context["what"], got=got, right=context["right"])
    if kind == "literal_error":
        return Problem(
            path=path, what="not one of its values", got=got, right=str(context["expected"]).replace("'", "")
        )
    if kind == "too_long":
        return Problem(path=path, what="too many entries", got=got, right=f"at most {context['max_length']}")
    what, right = _KINDS.get(kind, (detail["msg"], "see docs/configuration.md"))
    return Problem(path=path, what=what, got=got, right=right)


def _extra(path: str, key: str, model: type[Model]) -> Problem:
    """Return the problem of a key that a model does not have."""
    if key in model.refused:
        what, right = model.refused[key]
        return Problem(path=path, what=what, right=right)
    if key in model.later:
        return Problem(path=path, what="this version does not support it yet", right="leave it out")
    return unknown_key(path, key, keys_of(model))


def unknown_key(path: str, key: str, known: Sequence[str]) -> Problem:
    """Return the problem of a key that nobody knows, with the one that was probably meant."""
    folded = {name.replace("_", "").lower(): name for name in known}
    near = difflib.get_close_matches(key.replace("_", "").replace("-", "").lower(), folded, n=1, cutoff=0.6)
    right = f"did you mean {folded[near[0]]}?" if near else f"known here: {', '.join(known)}"
    return Problem(path=path, what="unknown key", got=key, right=right)


def keys_of(model: type[Model]) -> list[str]:
    """Return the keys a model takes, as written in a stack file."""
    return [field.alias or name for name, field in model.model_fields.items()]


def model_at(model: type[Model], location: Sequence[str | int]) -> type[Model]:
    """Return the model that describes the place below `model` that the keys lead to."""
    annotation: Any = model
    for key in location:
        if isinstance(annotation, type) and issubclass(annotation, Model):
            annotation = _inner(_field(annotation, str(key))[1].annotation)
        else:
            annotation = _inner(get_args(annotation)[-1])
    assert isinstance(annotation, type) and issubclass(annotation, Model)
    return annotation


def _field(model: type[Model], key: str) -> tuple[str, Any]:
    """Return the field of a model that a stack file's key fills, and its name."""
    return next(item for item in model.model_fields.items() if item[1].alias == key)


def _inner(annotation: Any) -> Any:
    """Return a type without what makes it optional or checked."""
    if get_origin(annotation) in (Union, types.UnionType):
        return _inner(next(part for part in get_args(annotation) if part is not type(None)))
    if hasattr(annotation, "__metadata__"):
        return _inner(get_args(annotation)[0])
    return annotation


def _meaning(model: type[Model], location: Sequence[str | int]) -> str:
    """Return the first sentence of what a key means, to say what would be right."""
    inside = model_at(model, location[:-1])
    name, _ = _field(inside, str(location[-1]))
    return re.split(r"[.;] ", " ".join(inside.meaning(name).split()), maxsplit=1)[0].rstrip(".")
