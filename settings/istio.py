"""What must hold for the control plane."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import SecretStr

from settings import authority, files
from settings.checks import at_path, has_path, reserved_values
from settings.draft import Draft
from settings.istio_models import CaSecret
from settings.models import Istio
from settings.problems import Problem, join
from settings.proxy_config import check_proxy_config

ISTIOD_VALUES = {
    "_internal_defaults_do_not_set": "give the keys below it at the top level",
    "base.validationFailurePolicy": "leave it out, it is Fail",
    "cni.enabled": "give istio.cni.enabled",
    "global.hub": "give istio.hub",
    "global.istioNamespace": "leave it out, it is istio-system",
    "global.meshID": "give istio.meshId",
    "global.multiCluster.clusterName": "give cluster.name",
    "global.network": "give cluster.network",
    "global.proxy.tracer": "give meshConfig.defaultConfig.tracing",
    "global.tag": "give istio.tag",
    "meshConfig.trustDomain": "give istio.trustDomain",
    "revision": "give istio.revision",
}
"""Values of the chart `istiod` that the program sets, and what to do instead."""
_SECTIONS = (
    "global",
    "global.proxy",
    "istiodRemote",
    "meshConfig",
    "sidecarInjectorWebhook",
    "telemetry",
    "telemetry.v2",
    "telemetry.v2.prometheus",
    "telemetry.v2.stackdriver",
)
"""Values of the chart `istiod` that are mappings, and of which the program reads something."""
CNI_VALUES = {
    "_internal_defaults_do_not_set": "give the keys below it at the top level",
    "global.hub": "give istio.hub",
    "global.tag": "give istio.tag",
    "hub": "give istio.hub",
    "tag": "give istio.tag",
}
"""The same of the chart `cni`."""


_OF_AN_INSTALLATION = {
    "ca_secret": "caSecret",
    "cni": "cni",
    "hub": "hub",
    "preset": "preset",
    "remove_crds": "removeCrds",
    "revision_tags": "revisionTags",
    "revisions": "revisions",
    "tag": "tag",
    "values": "values",
    "values_files": "valuesFiles",
}
"""Keys of the control plane that say how to install it."""
_T = TypeVar("_T")


class Attempt(Protocol):
    """Returns what an action returns, or notes at a path of the stack file why it refused."""

    def __call__(self, path: str, got: Any, action: Callable[[], _T]) -> _T | None:
        """Try it."""


def check_istio(draft: Draft) -> Iterator[Problem]:
    """Yield what is wrong with the control plane, as far as the stack file itself says it."""
    istio = draft.istio
    if istio is None:
        return
    yield from _values(istio.values, "istio", "values")
    yield from reserved_values(istio.cni.values, CNI_VALUES, "istio", "cni", "values")
    if istio.cni.values and not istio.cni.enabled:
        what = "values of a plugin that is not installed"
        yield Problem(path="istio.cni.values", what=what, right="give istio.cni.enabled: true, or leave them out")
    if istio.install == "helm":
        if not istio.version:
            yield Problem(path="istio.version", what="missing", right="give it: Istio's version")
        if istio.allow_patches:
            yield Problem(
                path="istio.allowPatches", what="only for install: existing", right="leave it out, or give the values"
            )
        return
    for key in sorted(istio.model_fields_set & _OF_AN_INSTALLATION.keys()):
        if getattr(istio, key) != Istio.model_fields[key].default:
            what = "for an Istio that this program installs, not for install: existing"
            yield Problem(path=f"istio.{_OF_AN_INSTALLATION[key]}", what=what, right="leave it out")


def check_values_files(istio: Istio, files: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """Yield what is wrong with values that stand in files, and with all of them together.

    Args:
        istio: The control plane.
        files: What its `valuesFiles` hold, in their order; empty for one that cannot be read.
    """
    for index, (name, values) in enumerate(zip(istio.values_files, files, strict=True)):
        yield from _values(values, "istio", "valuesFiles", index, within=name)
    address = ("global", "remotePilotAddress")
    if istio.preset == "remote" and not any(at_path(values, address) for values in (*files, istio.values)):
        yield Problem(
            path="istio.preset",
            what="says that istiod is elsewhere, but not where",
            got=istio.preset,
            right="give istio.values.global.remotePilotAddress",
        )


def _values(values: Mapping[str, Any], *path: str | int, within: str = "") -> Iterator[Problem]:
    yield from reserved_values(values, ISTIOD_VALUES, *path, within=within)
    keys = ("meshConfig", "defaultConfig")
    yield from check_proxy_config(at_path(values, keys), *path, *(() if within else keys))
    yield from check_sections(values, *path)


def check_sections(values: Mapping[str, Any], *path: str | int) -> Iterator[Problem]:
    """Yield what is read of a chart's values, and is not as the chart has it."""
    for name in _SECTIONS:
        keys = name.split(".")
        section = at_path(values, keys)
        if isinstance(section, Mapping) or not has_path(values, keys) or (section is None and len(keys) == 1):
            continue
        right = "keys with values, as in the chart's values.yaml"
        yield Problem(path=join(*path, *keys), what="not a mapping", got=section, right=right)
    place = ("sidecarInjectorWebhook", "reinvocationPolicy")
    policy = at_path(values, place)
    if policy not in (None, "Never", "IfNeeded"):
        right = "Never or IfNeeded"
        yield Problem(path=join(*path, *place), what="not one of its values", got=policy, right=right)


def read_authority(project: Path, ca: CaSecret, attempt: Attempt) -> authority.Authority | None:
    """Return the authority whose files a stack names, if all is right with it."""
    place, now = "istio.caSecret", authority.utc_now()

    def text(name: str | None) -> str:
        return files.read(files.locate(project, name or ""))

    own = attempt(
        f"{place}.certificate", ca.certificate, lambda: authority.only(authority.certificates(text(ca.certificate)))
    )
    roots = attempt(f"{place}.root", ca.root, lambda: authority.certificates(text(ca.root)))
    about, links = ("certificate", ca.certificate), own and [own]
    if ca.chain:
        about = ("chain", ca.chain)
        links = attempt(f"{place}.chain", ca.chain, lambda: authority.certificates(text(ca.chain)))
    key = attempt(f"{place}.key", ca.key, lambda: files.private_key_file(files.locate(project, ca.key or "")))
    if own and key:
        given = key
        key = attempt(f"{place}.key", ca.key, lambda: authority.key_of(own, given))
    if not own or not roots or not links:
        return None
    found = attempt(f"{place}.{about[0]}", about[1], lambda: authority.authority_of(own, links, roots, now))
    return dataclasses.replace(found, key=SecretStr(key)) if found and key else None
