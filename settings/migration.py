"""What must hold between a migration and the host that it is of."""

from collections.abc import Iterator

from settings.draft import Draft
from settings.problems import Problem, join


def check_migrations(draft: Draft) -> Iterator[Problem]:
    """Yield what is wrong with migrations."""
    for host, traffic in draft.traffic.items():
        move = traffic.migration
        if move is None:
            continue
        if traffic.routes:
            what = "given beside migration, which says itself where requests go"
            yield Problem(path=join("traffic", host, "routes"), what=what, right="one of the two")
        for key, subset in (("from", move.source), ("to", move.to)):
            if subset not in traffic.subsets:
                known = f"one of {', '.join(traffic.subsets)}" if traffic.subsets else "name it under subsets first"
                path = join("traffic", host, "migration", key)
                yield Problem(path=path, what="names no subset", got=subset, right=known)
