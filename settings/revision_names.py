"""What revisions and tags are called, and which of them a stack has."""

from collections.abc import Iterator

from settings.models import Istio
from settings.workload_models import Workload

TAGS = "revisionTags"


def plain(revision: str) -> str:
    """Return a revision's name as Istio's objects bear it: the default one has none."""
    return "" if revision == "default" else revision


def revisions_of(istio: Istio) -> list[str]:
    """Return the revisions of a stack by their plain names, the main one first."""
    return [plain(istio.revision), *map(plain, istio.revisions)]


def tags_of(istio: Istio) -> dict[str, str]:
    """Return the tags of a stack, and the plain name of the revision that each points at."""
    return {tag: revision for _, tag, revision in placed_tags(istio)}


def revision_of(istio: Istio, workload: Workload) -> str:
    """Return the plain name of a workload's revision."""
    return plain(istio.revision if workload.revision is None else workload.revision)


def placed_tags(istio: Istio) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """Yield each tag: where it stands, its name, and the revision that it points at."""
    for index, tag in enumerate(istio.revision_tags):
        yield ("istio", TAGS, index), tag, plain(istio.revision)
    for name, revision in istio.revisions.items():
        for index, tag in enumerate(revision.revision_tags):
            yield ("istio", "revisions", name, TAGS, index), tag, plain(name)
