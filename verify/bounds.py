"""How many of a number of requests may go one way by chance: the exact binomial distribution."""

from __future__ import annotations

import math

DOUBT = 0.001
"""How often a right distribution may be taken for a wrong one, all ways of a host together."""


def bounds(requests: int, percent: int, *, ways: int = 1) -> tuple[int, int]:
    """The least and the most requests that are no reason to doubt a weight.

    Args:
        requests: How many there are.
        percent: The weight.
        ways: Over how many ways the doubt is shared.
    """
    share, tail = percent / 100, DOUBT / ways / 2
    least = _first(requests, share, tail)
    return least, requests - _first(requests, 1 - share, tail)


def _first(requests: int, share: float, tail: float) -> int:
    """The least count that is not in the lower tail."""
    sum_ = 0.0
    for count in range(requests + 1):
        sum_ += _chance(requests, count, share)
        if sum_ > tail:
            return count
    return requests


def _chance(requests: int, count: int, share: float) -> float:
    """The chance of exactly so many."""
    if share in (0.0, 1.0):
        return float(count == requests * share)
    choices = math.lgamma(requests + 1) - math.lgamma(count + 1) - math.lgamma(requests - count + 1)
    return math.exp(choices + count * math.log(share) + (requests - count) * math.log1p(-share))
