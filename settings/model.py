"""What all models of the configuration share."""

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
        use_attribute_docstrings=True,
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
        known = cls.later | cls.refused.keys() | {field.alias for field in cls.model_fields.values()}
        return {key: value for key, value in data.items() if value is not None or key not in known}
