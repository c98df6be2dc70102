"""Follows what a configuration points to: kubeconfig, charts, checksum files; the files of ssh keys by `logins`.

What is found there becomes part of the settings, so that nothing after them reads a file of the user's again.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from settings import certificates, files
from settings.draft import Draft
from settings.ingress_models import IngressGateway, ServerCertificate
from settings.logins import Logins
from settings.models import Cluster
from settings.problems import Problem, Refused, join
from settings.result import Connection, SidecarPackage, TlsCertificate
from settings.sidecar_models import Package, Sidecar

_T = TypeVar("_T")


class References:
    """What a configuration points to, and what is wrong with it."""

    def __init__(self, project: Path) -> None:
        self.problems: list[Problem] = []
        self.connections: dict[str, Connection] = {}
        self.packages: dict[str, SidecarPackage] = {}
        self.own_packages: dict[str, dict[str, SidecarPackage]] = {}
        """By VM, of those that do not take the packages of every VM."""
        self.certificates: dict[str, TlsCertificate] = {}
        self._project = project

    def follow(self, draft: Draft, *, key_is_encrypted: bool) -> None:
        """Read everything that the parts of a configuration point to."""
        if draft.cluster is not None:
            self._kubeconfig(draft.cluster)
        if draft.istio is not None:
            self._charts(draft.istio.charts, "istio")
            for revision, asked in draft.istio.revisions.items():
                if asked.charts is not None:
                    self._charts(asked.charts, "istio", "revisions", revision)
        if draft.hosts is not None:
            self.packages = self._packages(draft.hosts.sidecar, "hosts")
            logins = Logins(self._project)
            self.connections.update(logins.settle(draft, draft.hosts, key_is_encrypted=key_is_encrypted))
            self.problems += logins.problems
        self._own_packages(draft)
        if draft.ingress_gateway is not None and draft.ingress_gateway.enabled:
            self._certificates(draft.ingress_gateway)

    def _attempt(self, path: str, got: Any, action: Callable[[], _T]) -> _T | None:
        """Return what an action returns, or note why it refused."""
        try:
            return action()
        except Refused as refused:
            self.problems.append(Problem(path=path, what=refused.what, got=got, right=refused.right))
            return None

    def _charts(self, place: str, *path: str) -> None:
        self._attempt(join(*path, "charts"), place, lambda: files.charts(self._project, place))

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

    def _certificates(self, gateway: IngressGateway) -> None:
        """Read the certificates that the ingress gateway shows, and see that they are for its hosts."""
        hosts: dict[str, list[str]] = {}
        for host, asked in gateway.hosts.items():
            if asked.tls is not None:
                hosts.setdefault(asked.tls.secret, []).append(host)
        for name, files_of in gateway.certificates.items():
            settled = self._certificate(files_of, hosts.get(name, []), join("ingressGateway", "certificates", name))
            if settled is not None:
                self.certificates[name] = settled

    def _certificate(self, asked: ServerCertificate, hosts: Sequence[str], path: str) -> TlsCertificate | None:
        """Return a certificate and its key, if they can be used."""
        certificate = files.locate(self._project, asked.certificate_file)
        key = files.locate(self._project, asked.private_key_file)
        ca, clients = asked.client_ca_file, None
        if ca is not None:
            look = functools.partial(certificates.certificates_in, files.locate(self._project, ca))
            clients = self._attempt(f"{path}.clientCaFile", ca, look)
        where, got = f"{path}.certificateFile", asked.certificate_file
        pem = self._attempt(where, got, lambda: certificates.certificates_in(certificate))
        if pem is None:
            return None
        private_key = self._attempt(
            f"{path}.privateKeyFile", asked.private_key_file, lambda: certificates.key_of(certificate, key)
        )
        if private_key is None:
            return None
        self._attempt(where, got, lambda: certificates.check_names(certificate, key, hosts))
        return TlsCertificate(certificate=pem, private_key=private_key, client_ca=clients)

    def _own_packages(self, draft: Draft) -> None:
        """Note the packages of VMs that do not take those of every VM: their own, else their workload's."""
        of_workload = {
            name: self._packages(workload.sidecar, "workloads", name)
            for name, workload in draft.workloads.items()
            if workload.sidecar is not None
        }
        for vm in draft.vms:
            if vm.machine.sidecar is not None:
                self.own_packages[vm.name] = self._packages(vm.machine.sidecar, *vm.keys)
            elif vm.workload in of_workload:
                self.own_packages[vm.name] = of_workload[vm.workload]

    def _packages(self, sidecar: Sidecar, *place: str) -> dict[str, SidecarPackage]:
        """Return the packages that a place of the configuration names and that can be had."""
        found = {}
        for arch, packages in (("amd64", sidecar.amd64), ("arm64", sidecar.arm64)):
            for family in ("deb", "rpm"):
                package: Package | None = getattr(packages, family, None)
                if package is None:
                    continue
                settled = self._package(package, join(*place, "sidecar", arch, family))
                if settled is not None:
                    found[f"{family}-{arch}"] = settled
        return found

    def _package(self, package: Package, path: str) -> SidecarPackage | None:
        """Return a package, once its checksum is known and, for a file, holds."""
        url, file = package.url, package.file
        name = files.file_name(url) if url is not None else Path(file or "").name
        digest = self._attempt(
            f"{path}.sha256", package.sha256, lambda: files.checksum(self._project, package.sha256, name)
        )
        if digest is None:
            return None
        if file is not None:
            self._attempt(f"{path}.file", file, lambda: files.package(self._project, file, digest))
        return SidecarPackage(url=url, file=file and str(Path(file).expanduser()), sha256=digest)
