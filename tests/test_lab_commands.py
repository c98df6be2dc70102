"""Every process of a cluster: the right place, the right files, nothing of another cluster."""

from dataclasses import fields
from pathlib import Path

import pytest

from lab import commands, manifests, paths
from lab.pki import certificates
from lab.spec import ClusterSpec
from lab.toolchain import Tools

TOOLS = Tools(**{f.name: Path("/tools") / f.name for f in fields(Tools) if "tuple" not in str(f.type)},
              images=(), debian_bin_dirs=(), path_entries=())  # fmt: skip
ONE, TWO = ClusterSpec(1), ClusterSpec(2)


def every_command(cluster: ClusterSpec) -> dict[str, list[str]]:
    return {
        "etcd": commands.etcd(cluster, TOOLS),
        "kube-apiserver": commands.apiserver(cluster, TOOLS),
        "kube-controller-manager": commands.controller_manager(cluster, TOOLS),
        "kube-scheduler": commands.scheduler(cluster, TOOLS),
        "containerd": commands.containerd(cluster, TOOLS),
        "kubelet": commands.kubelet(cluster, TOOLS, mounts_of=4711),
        "kube-proxy": commands.kube_proxy(cluster, TOOLS),
        "load-balancer": commands.load_balancer(cluster, "/python"),
    }


def test_there_is_a_command_for_every_component() -> None:
    assert tuple(every_command(ONE)) == commands.COMPONENTS


@pytest.mark.parametrize("component", commands.COMPONENTS)
def test_every_process_runs_in_its_node_s_network(component: str) -> None:
    for cluster in (ONE, TWO):
        assert every_command(cluster)[component][:2] == ["/usr/bin/nsenter", f"--net=/run/netns/{cluster.namespace}"]


@pytest.mark.parametrize("component", commands.COMPONENTS)
def test_no_process_of_the_second_cluster_touches_the_first(component: str) -> None:
    text = " ".join(every_command(TWO)[component])
    for foreign in (ONE.address + ":", "cluster1", "node1", "10.96.", "10.244."):
        assert foreign not in text


def test_every_certificate_that_a_command_names_is_issued() -> None:
    issued = {c.file for c in certificates(ONE)} | {"ca", "service-account"}
    words = " ".join(" ".join(argv) for argv in every_command(ONE).values()).split()
    named = {Path(word.partition("=")[2]) for word in words if str(ONE.pki) in word.partition("=")[2]}
    assert {path.stem for path in named} <= issued
    assert len(named) > 12


def test_etcd_listens_on_the_node_s_loopback_only() -> None:
    urls = [a for a in commands.etcd(ONE, TOOLS) if "://" in a]
    assert len(urls) == 5
    assert all("http://127.0.0.1:" in url for url in urls)


def test_the_kubelet_shares_the_mounts_of_containerd() -> None:
    assert "--mount=/proc/4711/ns/mnt" in commands.kubelet(ONE, TOOLS, mounts_of=4711)
    assert commands.containerd(ONE, TOOLS)[3:6] == ["/usr/bin/unshare", "--mount", "--propagation=private"]


def test_hard_wired_folders_are_the_node_s_own() -> None:
    for folder in commands.HARD_WIRED:
        assert f"{ONE.data}/private/{folder[1:].replace('/', '-')}:{folder}" in commands.containerd(ONE, TOOLS)
        assert commands.private_folder(ONE, folder) != commands.private_folder(TWO, folder)


def test_the_kubelet_keeps_everything_in_the_lab_s_folders() -> None:
    config = manifests.kubelet(TWO, paths.LOGS)
    assert config["cgroupRoot"] == "/istio-vm-lab/pods-cluster2"
    assert config["clusterDNS"] == ["10.97.0.53"]
    assert config["containerRuntimeEndpoint"] == "unix:///run/istio-vm-lab/cluster2/containerd.sock"
    for key in ("podLogsDir", "volumePluginDir"):
        assert config[key].startswith("/var/lib/istio-vm-lab/")
