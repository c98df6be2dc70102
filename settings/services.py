"""What must hold between the hosts of the whole stack."""

from collections.abc import Iterator

from settings.draft import Draft
from settings.problems import Problem


def check_services(draft: Draft) -> Iterator[Problem]:
    """Yield what is wrong with hosts and what they select."""
    yield from ()
