"""A provider's diff where all that matters is which inputs differ, and which of these cannot change in place."""

from __future__ import annotations

from collections.abc import Sequence

from lab.engine.diffs import Path, compare, parse_path
from lab.engine.providers.base import Diff, Values


def diff(old: Values, new: Values, replacing: Sequence[Path] = (), *, delete_before_replace: bool = False) -> Diff:
    """Compare inputs.

    Args:
        old: The inputs that the resource was made with.
        new: Those that it is to have.
        replacing: A change at or below one of these paths (or one that swallows it) forces a replacement.
        delete_before_replace: Whether the old resource must go before the new one can come.
    """
    detailed = compare(old, new)
    replace = tuple(text for text in detailed if any(_touches(parse_path(text), path) for path in replacing))
    return Diff(bool(detailed), replace, bool(replace) and delete_before_replace, detailed)


def _touches(path: Path, forced: Path) -> bool:
    return path[: len(forced)] == forced or forced[: len(path)] == path
