"""What must hold between traffic rules and the hosts that they are about."""

from collections.abc import Iterator

from settings.draft import Draft
from settings.problems import Problem


def check_traffic(draft: Draft) -> Iterator[Problem]:
    """Yield what is wrong with traffic rules."""
    yield from ()
