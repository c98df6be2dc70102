"""What must hold for namespaces and policies together with the rest of the stack."""

from collections.abc import Iterator

from settings.draft import Draft
from settings.problems import Problem


def check_namespaces(draft: Draft) -> Iterator[Problem]:
    """Yield what is wrong with namespaces and policies."""
    yield from ()
