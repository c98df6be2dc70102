"""What must hold for the ingress gateway."""

from collections.abc import Iterator

from settings.draft import Draft
from settings.problems import Problem


def check_ingress(draft: Draft) -> Iterator[Problem]:
    """Yield what is wrong with the ingress gateway."""
    yield from ()
