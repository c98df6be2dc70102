"""What must hold for revisions and their tags: each name means one thing, and every VM's revision is there."""

from collections.abc import Iterator

from settings.checks import at_path, reserved_values
from settings.draft import Draft
from settings.istio import ISTIOD_VALUES, check_sections
from settings.models import Istio
from settings.problems import Problem, join
from settings.proxy_config import check_proxy_config
from settings.revision_names import TAGS, placed_tags, plain, revision_of, revisions_of, tags_of


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


def _tag_names(istio: Istio) -> Iterator[Problem]:
    """Yield tags by whose name something else is known already."""
    first: dict[str, str] = {}
    known = revisions_of(istio)
    for where, tag, _ in placed_tags(istio):
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
    tags = {TAGS: f"give istio.{TAGS}"}
    yield from reserved_values(istio.values, tags, "istio", "values")
    for name, revision in istio.revisions.items():
        place = ("istio", "revisions", name)
        own = {
            "global.hub": f"give {join(*place, 'hub')}",
            "global.tag": f"give {join(*place, 'tag')}",
            "revision": "leave it out, it is the key",
            TAGS: f"give {join(*place, TAGS)}",
        }
        yield from reserved_values(revision.values, {**ISTIOD_VALUES, **own}, *place, "values")
        keys = ("meshConfig", "defaultConfig")
        yield from check_proxy_config(at_path(revision.values, keys), *place, "values", *keys)
        yield from check_sections(revision.values, *place, "values")
