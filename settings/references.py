"""Follows what a configuration points to: kubeconfig, charts, checksum files; the files of ssh keys by `logins`.

What is found there becomes part of the settings, so that nothing after them reads a file of the user's again.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from settings import files
from settings.draft import Draft
from settings.logins import Logins
from settings.models import Cluster, Hosts
from settings.problems import Problem, Refused, join
from settings.result import Connection, SidecarPackage
from settings.sidecar_models import Package

_T = TypeVar("_T")


class References:
    """What a configuration points to, and what is wrong with it."""

    def __init__(self, project: Path) -> None:
        self.problems: list[Problem] = []
        self.connections: dict[str, Connection] = {}
        self.packages: dict[str, SidecarPackage] = {}
        self._project = project

    def follow(self, draft: Draft, *, key_is_encrypted: bool) -> None:
        """Read everything that the parts of a configuration point to."""
        if draft.cluster is not None:
            self._kubeconfig(draft.cluster)
        if draft.istio is not None:
            charts = draft.istio.charts
            self._attempt("istio.charts", charts, lambda: files.charts(self._project, charts))
        if draft.hosts is not None:
            self._packages(draft.hosts)
            logins = Logins(self._project)
            self.connections.update(logins.settle(draft, draft.hosts, key_is_encrypted=key_is_encrypted))
            self.problems += logins.problems

    def _attempt(self, path: str, got: Any, action: Callable[[], _T]) -> _T | None:
        """Return what an action returns, or note why it refused."""
        try:
            return action()
        except Refused as refused:
            self.problems.append(Problem(path=path, what=refused.what, got=got, right=refused.right))
            return None

    def _kubeconfig(self, cluster: Cluster) -> None:
        path, context = cluster.kubeconfig, cluster.context
        if path is None:
            return
        if path.startswith("~"):
            right = "a path relative to the project, or leave it out for KUBECONFIG or ~/.kube/config"
            what = "not relative to the project, nor absolute"
            self.problems.append(Problem(path="cluster.kubeconfig", what=what, got=path, right=right))
            return
        found = self._attempt("cluster.kubeconfig", path, lambda: files.contexts(self._project / path))
        if found is not None and context is not None and context not in found:
            what, right = "the kubeconfig has no such context", f"one of {', '.join(found) or '(it has none)'}"
            self.problems.append(Problem(path="cluster.context", what=what, got=context, right=right))

    def _packages(self, hosts: Hosts) -> None:
        for arch, packages in (("amd64", hosts.sidecar.amd64), ("arm64", hosts.sidecar.arm64)):
            for family in ("deb", "rpm"):
                package: Package | None = getattr(packages, family, None)
                if package is not None:
                    self._package(family, arch, package)

    def _package(self, family: str, arch: str, package: Package) -> None:
        """Note a package, once its checksum is known and, for a file, holds."""
        path, url, file = join("hosts", "sidecar", arch, family), package.url, package.file
        name = files.file_name(url) if url is not None else Path(file or "").name
        digest = self._attempt(
            f"{path}.sha256", package.sha256, lambda: files.checksum(self._project, package.sha256, name)
        )
        if digest is None:
            return
        if file is not None:
            self._attempt(f"{path}.file", file, lambda: files.package(self._project, file, digest))
        self.packages[f"{family}-{arch}"] = SidecarPackage(
            url=url, file=file and str(Path(file).expanduser()), sha256=digest
        )
