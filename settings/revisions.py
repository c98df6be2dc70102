"""What must hold for revisions and their tags: each name means one thing, and every VM's revision is there."""

from collections.abc import Iterator

from settings.checks import ISTIOD_VALUES, at_path, proxy_metadata, reserved_values
from settings.draft import Draft
from settings.models import Istio
from settings.problems import Problem, join
from settings.workload_models import Workload

_TAGS = "revisionTags"


def plain(revision: str) -> str:
    """Return a revision's name as Istio's objects bear it: the default one has none."""
    return "" if revision == "default" else revision


def revisions_of(istio: Istio) -> list[str]:
    """Return the revisions of a stack by their plain names, the main one first."""
    return [plain(istio.revision), *map(plain, istio.revisions)]


def tags_of(istio: Istio) -> dict[str, str]:
    """Return the tags of a stack, and the plain name of the revision that each points at."""
    return {tag: revision for _, tag, revision in _tags(istio)}


def revision_of(istio: Istio, workload: Workload) -> str:
    """Return the plain name of a workload's revision."""
    return plain(istio.revision if workload.revision is None else workload.revision)


def check_revisions(draft: Draft) -> Iterator[Problem]:
    """Yield what is wrong with revisions, tags, and who names them."""
    istio = draft.istio
    if istio is None:
        return
    yield from _values(istio)
    for name in istio.revisions:
        if plain(name) == plain(istio.revision):
            what, right = "the main revision too", "leave it out, or give istio.revision another name"
            yield Problem(path=join("istio", "revisions", name), what=what, got=istio.revision, right=right)
    yield from _tag_names(istio)
    known = revisions_of(istio)
    for key, workload in draft.workloads.items():
        if revision_of(istio, workload) not in known:
            yield _stranger(istio, key, str(workload.revision))


def _tags(istio: Istio) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """Yield each tag: where it stands, its name, and the revision that it points at."""
    for index, tag in enumerate(istio.revision_tags):
        yield ("istio", _TAGS, index), tag, plain(istio.revision)
    for name, revision in istio.revisions.items():
        for index, tag in enumerate(revision.revision_tags):
            yield ("istio", "revisions", name, _TAGS, index), tag, plain(name)


def _tag_names(istio: Istio) -> Iterator[Problem]:
    """Yield tags by whose name something else is known already."""
    first: dict[str, str] = {}
    known = revisions_of(istio)
    for where, tag, _ in _tags(istio):
        path = join(*where)
        if first.setdefault(tag, path) != path:
            yield Problem(path=path, what=f"the tag {first[tag]} too", got=tag, right="each tag at one revision")
        elif tag == "default" and "" in known:
            what = "the tag by which a named revision stands in for the default one, which is there itself"
            yield Problem(path=path, what=what, got=tag, right="another name")
        elif tag in known:
            yield Problem(path=path, what="the name of a revision", got=tag, right="a name of its own")


def _stranger(istio: Istio, workload: str, named: str) -> Problem:
    """Return the problem of a workload whose VMs have no control plane."""
    path = join("workloads", workload, "revision")
    target = tags_of(istio).get(named)
    if target is not None:
        what = "a tag, whose name istiod's certificate does not bear: VMs would refuse it"
        return Problem(path=path, what=what, got=named, right=f"the revision that it points at, {target or 'default'}")
    names = ", ".join(name or "default" for name in revisions_of(istio))
    return Problem(path=path, what="no revision of this stack", got=named, right=f"one of {names}")


def _values(istio: Istio) -> Iterator[Problem]:
    """Yield chart values of revisions that have keys of their own, and what no VM could take."""
    tags = {_TAGS: f"give istio.{_TAGS}"}
    yield from reserved_values(istio.values, tags, "istio", "values")
    for name, revision in istio.revisions.items():
        place = ("istio", "revisions", name)
        own = {
            "global.hub": f"give {join(*place, 'hub')}",
            "global.tag": f"give {join(*place, 'tag')}",
            "revision": "leave it out, it is the key",
            _TAGS: f"give {join(*place, _TAGS)}",
        }
        yield from reserved_values(revision.values, {**ISTIOD_VALUES, **own}, *place, "values")
        keys = ("meshConfig", "defaultConfig")
        yield from proxy_metadata(at_path(revision.values, keys), *place, "values", *keys)
