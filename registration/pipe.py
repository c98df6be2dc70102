"""How the program hands a reader its request: as JSON on standard input."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def dump(request: DataclassInstance) -> str:
    """The request as one line of JSON, the same for the same request."""
    return json.dumps(asdict(request), sort_keys=True)
