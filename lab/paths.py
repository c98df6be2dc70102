"""Where everything of the lab lies. Other modules ask here, so that no path is written twice.

Three places: `.lab/` in the checkout (what the program and people need of the running lab), a machine-wide folder for
run state that does not survive a boot, and a machine-wide folder for data. The machine-wide ones are why there is one
lab a machine.
"""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
"""The clone that this code runs from: the owner of a lab it starts."""

LAB = CHECKOUT / ".lab"
KUBECONFIG = LAB / "kubeconfig"
SSH_KEY = LAB / "ssh" / "id_ed25519"
KNOWN_HOSTS = LAB / "ssh" / "known_hosts"
CHARTS = LAB / "charts"
DEB_CHECKSUM = LAB / "istio-sidecar.deb.sha256"
PULUMI = LAB / "pulumi"
PULUMI_HOME = PULUMI / "home"
LOG_LINK = LAB / "log"

RUN = Path("/run/istio-vm-lab")
OWNER = RUN / "owner.json"
SPEC = RUN / "spec.json"
READY = RUN / "ready"
SYSCTLS = RUN / "sysctls.json"
RESIDUE = RUN / "residue.json"
PROCESSES = RUN / "processes"

DATA = Path("/var/lib/istio-vm-lab")
LOGS = DATA / "log"
VMS = DATA / "vms"
MIRROR = DATA / "mirror"

NETNS = Path("/run/netns")
CGROUP = "istio-vm-lab"
"""Name of the lab's own control group, in every hierarchy: the kernel's record of what belongs to the lab."""


def kubeconfig(cluster: int = 1) -> Path:
    """Return the administrator's kubeconfig of a cluster; the first cluster's has the plain name."""
    return KUBECONFIG if cluster == 1 else LAB / f"kubeconfig-cluster{cluster}"


def log(process: str) -> Path:
    """Return the log file of one of the lab's processes."""
    return LOGS / f"{process}.log"


def netns(namespace: str) -> Path:
    """Return the handle of a network namespace."""
    return NETNS / namespace
