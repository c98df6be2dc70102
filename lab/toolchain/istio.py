"""Makes what Istio ships besides its programs: the charts, and the package that VMs install.

Both come from the files of the Istio module that the programs are built from, so they always fit each other.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from lab.toolchain.cache import Job, Lane, Part, sources
from lab.toolchain.go import MODULES, Go, GoBuild, Program, module_folder

VERSION = "1.31.1"
MODULE = "istio.io/istio"
EPOCH = 1_700_000_000
"""The time of every file in what is built here, in seconds, so that the same inputs give the same bytes."""

HUB = "lab.local/istio"

# Name of the published chart -> its folder below manifests/charts.
CHARTS = {"base": "base", "istiod": "istio-control/istio-discovery", "gateway": "gateway", "cni": "istio-cni"}

# Path in the package -> file below tools/packaging/common, and its mode.
PACKAGED = {
    "usr/local/bin/istio-start.sh": ("istio-start.sh", 0o755),
    "lib/systemd/system/istio.service": ("istio.service", 0o644),
    "var/lib/istio/envoy/sidecar.env": ("sidecar.env", 0o644),
    "var/lib/istio/envoy/envoy_bootstrap_tmpl.json": ("envoy_bootstrap.json", 0o644),
}
CONFFILES = ("/var/lib/istio/envoy/envoy_bootstrap_tmpl.json", "/var/lib/istio/envoy/sidecar.env")

_PROGRAMS = f"{MODULE}/pkg/version"
BUILD = GoBuild(
    name="istio",
    title=f"build Istio {VERSION} (pilot-discovery, pilot-agent, istioctl, istio-cni)",
    module=MODULES / "istio",
    programs=(
        Program(f"{MODULE}/pilot/cmd/pilot-discovery"),
        Program(f"{MODULE}/istioctl/cmd/istioctl"),
        Program(f"{MODULE}/pilot/cmd/pilot-agent", tags="agent"),
        Program(f"{MODULE}/cni/cmd/install-cni", tags="agent"),
        Program(f"{MODULE}/cni/cmd/istio-cni", tags="agent"),
    ),
    values=(
        f"{_PROGRAMS}.buildVersion={VERSION}",
        f"{_PROGRAMS}.buildTag={VERSION}",
        f"{_PROGRAMS}.buildHub={HUB}",
        f"{_PROGRAMS}.buildStatus=Clean",
    ),
)


def released(chart: str) -> str:
    """Return a Chart.yaml with the version of the release; the sources say 1.0.0 and leave that to the release."""
    return re.sub(r"^(version|appVersion): .*$", rf"\g<1>: {VERSION}", chart, flags=re.MULTILINE)


def copy_charts(job: Job, go: Go) -> None:
    """Copy Istio's charts under their published names."""
    charts = module_folder(go, job, BUILD.module, MODULE) / "manifests/charts"
    for name, folder in CHARTS.items():
        place = job.target / name
        # Contents only: the module cache's files and folders are read-only.
        shutil.copytree(charts / folder, place, copy_function=shutil.copyfile)
        for path in [place, *place.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        description = place / "Chart.yaml"
        description.write_text(released(description.read_text()))


def charts_part(go: Go) -> Part:
    """Return the part that holds the charts, a folder each."""
    return Part(
        name="charts",
        title="copy Istio's charts",
        inputs=sources(Path(__file__), BUILD.module / "go.mod", BUILD.module / "go.sum"),
        build=lambda job: copy_charts(job, go),
        lane=Lane.DISK,
        needs=go.needs,
    )


def control(architecture: str, size: int) -> str:
    """Return the package's control file.

    Args:
        architecture: Debian's name of it.
        size: Of the installed files, in KiB.
    """
    fields: Mapping[str, object] = {
        "Package": "istio-sidecar",
        "Version": VERSION,
        "Architecture": architecture,
        "Maintainer": "istio@istio.io",
        "Installed-Size": size,
        "Depends": "iproute2, iptables, sudo, hostname",
        "Section": "net",
        "Priority": "optional",
        "Homepage": "http://istio.io",
        "Description": "Istio Sidecar",
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def pack_sidecar(job: Job, go: Go, istio: Part, envoy: Part) -> None:
    """Write `istio-sidecar.deb` and its checksum file."""
    packaging = module_folder(go, job, BUILD.module, MODULE) / "tools/packaging"
    files = {place: (packaging / "common" / name, mode) for place, (name, mode) in PACKAGED.items()}
    files["usr/local/bin/pilot-agent"] = (job.folder(istio) / "bin/pilot-agent", 0o755)
    files["usr/local/bin/envoy"] = (job.folder(envoy) / "bin/envoy", 0o755)

    tree = job.target / "tree"
    sums = []
    for place, (source, mode) in sorted(files.items()):
        target = tree / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        target.chmod(mode)
        with target.open("rb") as file:
            sums.append(f"{hashlib.file_digest(file, 'md5').hexdigest()}  {place}\n")
    size = sum(target.stat().st_size for target in tree.rglob("*") if target.is_file()) // 1024

    meta = tree / "DEBIAN"
    meta.mkdir()
    architecture = job.shell.run("dpkg", "--print-architecture").strip()
    (meta / "control").write_text(control(architecture, size))
    (meta / "conffiles").write_text("".join(f"{name}\n" for name in CONFFILES))
    (meta / "md5sums").write_text("".join(sums))
    (meta / "postinst").write_bytes((packaging / "postinst.sh").read_bytes())
    (meta / "postinst").chmod(0o755)
    job.shell.run("find", tree, "-exec", "touch", "--no-dereference", f"--date=@{EPOCH}", "{}", "+")

    package = job.target / "istio-sidecar.deb"
    build = ("dpkg-deb", "--root-owner-group", "-Zzstd", "-z3", "--build", tree, package)
    job.shell.run(*build, env={"SOURCE_DATE_EPOCH": str(EPOCH)})
    shutil.rmtree(tree)
    with package.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    (job.target / "istio-sidecar.deb.sha256").write_text(f"{digest}  {package.name}\n")


def sidecar_part(go: Go, istio: Part, envoy: Part) -> Part:
    """Return the part that holds the VMs' package and its checksum file."""
    return Part(
        name="sidecar",
        title=f"pack istio-sidecar.deb {VERSION}",
        inputs=sources(Path(__file__)),
        build=lambda job: pack_sidecar(job, go, istio, envoy),
        lane=Lane.DISK,
        needs=(istio, envoy, *go.needs),
    )
