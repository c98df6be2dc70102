"""Says what is in each of the lab's images.

Static programs stand alone; only the proxy's image has a Debian below it, since its init container needs iptables.
"""

from __future__ import annotations

from pathlib import Path

from lab.toolchain import images, istio
from lab.toolchain.cache import Job, Lane, Part, sources
from lab.toolchain.go import Go, module_folder
from lab.toolchain.images import File, Image

BOOTSTRAP = "/var/lib/istio/envoy/envoy_bootstrap_tmpl.json"

# What a container of the proxy never reads.
LEFT_OUT = (
    "boot",
    "dev/*",
    "etc/machine-id",
    "etc/systemd",
    "proc/*",
    "sys/*",
    "run/*",
    "tmp/*",
    "usr/lib/*-linux-gnu/gconv",
    "usr/lib/*-linux-gnu/perl*",
    "usr/lib/*-linux-gnu/systemd",
    "usr/lib/apt",
    "usr/lib/modules",
    "usr/lib/systemd",
    "usr/lib/udev",
    "usr/share/doc",
    "usr/share/i18n",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/perl*",
    "usr/share/zoneinfo",
    "var/cache/*",
    "var/lib/apt",
    "var/lib/dpkg",
    "var/log/*",
)


def write_small(job: Job, go: Go, apps: Part, coredns: Part, programs: Part) -> None:
    """Write the images that hold one static program."""
    packaging = module_folder(go, job, istio.BUILD.module, istio.MODULE) / "tools/packaging"
    pilot = (
        File(job.folder(programs) / "bin/pilot-discovery", "/usr/local/bin/pilot-discovery"),
        File(packaging / "common/envoy_bootstrap.json", BOOTSTRAP, 0o644),
    )
    contents = {
        "pause": Image(name="lab.local/pause:1", files=_one(job, apps, "pause"), entrypoint=("/pause",)),
        "hello": Image(name="lab.local/hello:1", files=_one(job, apps, "hello"), entrypoint=("/hello",)),
        "coredns": Image(name="lab.local/coredns:1", files=_one(job, coredns, "coredns"), entrypoint=("/coredns",)),
        "pilot": Image(
            name=f"{istio.HUB}/pilot:dev",
            files=pilot,
            entrypoint=("/usr/local/bin/pilot-discovery",),
            user="1337:1337",
        ),
    }
    for name, image in contents.items():
        images.write_image(image, job.target / f"{name}.tar")


def _one(job: Job, part: Part, program: str) -> tuple[File, ...]:
    return (File(job.folder(part) / "bin" / program, f"/{program}"),)


def write_proxy(job: Job, go: Go, debian_root: Part, programs: Part, envoy: Part) -> None:
    """Write the proxy's image."""
    packaging = module_folder(go, job, istio.BUILD.module, istio.MODULE) / "tools/packaging"
    base = job.target / "base.layer"
    images.write_root_layer(job.folder(debian_root) / "root", LEFT_OUT, base)
    image = Image(
        name=f"{istio.HUB}/proxyv2:dev",
        files=(
            File(job.folder(programs) / "bin/pilot-agent", "/usr/local/bin/pilot-agent"),
            File(job.folder(envoy) / "bin/envoy", "/usr/local/bin/envoy"),
            File(packaging / "common/envoy_bootstrap.json", BOOTSTRAP, 0o644),
        ),
        entrypoint=("/usr/local/bin/pilot-agent",),
        base=base,
    )
    images.write_image(image, job.target / "proxyv2.tar")
    base.unlink()


def write_cni(job: Job, programs: Part) -> None:
    """Write the image of Istio's CNI plugin, which installs itself on the node."""
    built = job.folder(programs) / "bin"
    image = Image(
        name=f"{istio.HUB}/install-cni:dev",
        files=(
            File(built / "install-cni", "/usr/local/bin/install-cni"),
            File(built / "istio-cni", "/opt/cni/bin/istio-cni"),
        ),
        entrypoint=("/usr/local/bin/install-cni",),
    )
    images.write_image(image, job.target / "install-cni.tar")


def parts(go: Go, *, apps: Part, coredns: Part, programs: Part, envoy: Part, debian_root: Part) -> tuple[Part, ...]:
    """Return the parts that hold the images, as `*.tar`."""
    code = sources(Path(__file__), Path(images.__file__))
    return (
        Part(
            name="images",
            title="write images pause, hello, coredns, pilot",
            inputs=code,
            build=lambda job: write_small(job, go, apps, coredns, programs),
            lane=Lane.DISK,
            needs=(apps, coredns, programs, *go.needs),
        ),
        Part(
            name="proxy-image",
            title="write image proxyv2",
            inputs=code,
            build=lambda job: write_proxy(job, go, debian_root, programs, envoy),
            lane=Lane.DISK,
            needs=(debian_root, programs, envoy, *go.needs),
        ),
        Part(
            name="cni-image",
            title="write image install-cni",
            inputs=code,
            build=lambda job: write_cni(job, programs),
            lane=Lane.DISK,
            needs=(programs,),
        ),
    )
