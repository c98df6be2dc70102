"""Names the files that the toolchain makes, so that nothing else knows how the cache is laid out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab.toolchain.cache import Cache
from lab.toolchain.parts import Parts

_IMAGES = (("pause", "hello", "coredns", "pilot"), ("proxyv2",), ("install-cni",))
"""The archives in each part that holds images; a cluster imports them in this order."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Absolute paths of everything that the lab runs or copies. All of it is to be read only."""

    kube_apiserver: Path
    kube_controller_manager: Path
    kube_scheduler: Path
    kubelet: Path
    kube_proxy: Path
    kubectl: Path
    pilot_agent: Path
    istioctl: Path
    helm: Path
    coredns: Path
    pulumi: Path
    """The CLI; the kubernetes provider's plugin lies beside it."""
    etcd: Path
    containerd: Path
    containerd_shim: Path
    """The folder of containerd's shim, which containerd looks for on PATH."""
    ctr: Path
    runc: Path
    cni_bin_dir: Path
    envoy: Path
    hello: Path
    charts: Path
    """The folder of Istio's charts: `base`, `istiod`, `gateway`, `cni`."""
    vm_root: Path
    """The root that is the lower layer of each VM's overlay."""
    sidecar_deb: Path
    sidecar_deb_sha256: Path
    """The checksum file beside the package: `<sha256>  istio-sidecar.deb`."""
    images: tuple[Path, ...]
    """Docker archives."""
    debian_bin_dirs: tuple[Path, ...]
    """The folders of the programs that were unpacked from Debian packages."""
    path_entries: tuple[Path, ...]
    """The folders to put on PATH for all of the programs."""


def tools(cache: Cache, parts: Parts) -> Tools:
    """Return the paths of the parts in a cache."""
    kubernetes = cache.folder(parts.kubernetes) / "bin"
    istio = cache.folder(parts.istio) / "bin"
    helm = cache.folder(parts.helm) / "bin"
    coredns = cache.folder(parts.coredns) / "bin"
    pulumi = cache.folder(parts.pulumi) / "bin"
    envoy = cache.folder(parts.envoy) / "bin"
    debian = cache.folder(parts.debian) / "usr"
    sidecar = cache.folder(parts.sidecar) / "istio-sidecar.deb"
    debian_bin_dirs = (debian / "bin", debian / "sbin")
    return Tools(
        kube_apiserver=kubernetes / "kube-apiserver",
        kube_controller_manager=kubernetes / "kube-controller-manager",
        kube_scheduler=kubernetes / "kube-scheduler",
        kubelet=kubernetes / "kubelet",
        kube_proxy=kubernetes / "kube-proxy",
        kubectl=kubernetes / "kubectl",
        pilot_agent=istio / "pilot-agent",
        istioctl=istio / "istioctl",
        helm=helm / "helm",
        coredns=coredns / "coredns",
        pulumi=pulumi / "pulumi",
        etcd=debian / "bin/etcd",
        containerd=debian / "bin/containerd",
        containerd_shim=debian / "bin",
        ctr=debian / "bin/ctr",
        runc=debian / "sbin/runc",
        cni_bin_dir=debian / "lib/cni",
        envoy=envoy / "envoy",
        hello=cache.folder(parts.apps) / "bin/hello",
        charts=cache.folder(parts.charts),
        vm_root=cache.folder(parts.vm_root) / "root",
        sidecar_deb=sidecar,
        sidecar_deb_sha256=sidecar.with_name(f"{sidecar.name}.sha256"),
        images=tuple(
            cache.folder(part) / f"{name}.tar"
            for part, names in zip(parts.images, _IMAGES, strict=True)
            for name in names
        ),
        debian_bin_dirs=debian_bin_dirs,
        path_entries=(kubernetes, istio, helm, *debian_bin_dirs),
    )
