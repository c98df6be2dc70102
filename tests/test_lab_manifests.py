"""The configuration files of a node, read back as those who read them do."""

import tomllib
from pathlib import Path

from lab import manifests
from lab.api import object_path
from lab.commands import HARD_WIRED
from lab.spec import ClusterSpec


def test_containerd_uses_no_folder_outside_the_lab() -> None:
    text = manifests.containerd(ClusterSpec(2), runc=Path("/tools/runc"))
    config = tomllib.loads(text)
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    runc = cri["containerd"]["runtimes"]["runc"]["options"]
    opt = config["plugins"]["io.containerd.internal.v1.opt"]["path"]
    for folder in (config["root"], opt):
        assert folder.startswith("/var/lib/istio-vm-lab/cluster2/")
    for folder in (config["state"], config["grpc"]["address"], config["ttrpc"]["address"], runc["Root"]):
        assert folder.startswith("/run/istio-vm-lab/cluster2/")
    assert cri["netns_mounts_under_state_dir"] is True
    assert runc["BinaryName"] == "/tools/runc"
    assert {cri["cni"]["bin_dir"], cri["cni"]["conf_dir"]} <= set(HARD_WIRED)
    assert cri["sandbox_image"] == "lab.local/pause:1"


def test_pods_have_routed_legs_in_the_node_s_range() -> None:
    first, second = manifests.cni(ClusterSpec(2))["plugins"]
    assert (first["type"], first["ipMasq"], second["type"]) == ("ptp", False, "portmap")
    assert first["ipam"]["ranges"] == [[{"subnet": "10.245.0.0/24"}]]
    assert first["ipam"]["dataDir"].startswith("/var/lib/istio-vm-lab/")


def test_dns_has_the_address_that_pods_are_told() -> None:
    objects = {o["kind"]: o for o in manifests.coredns(ClusterSpec(1))}
    assert objects["Service"]["spec"]["clusterIP"] == "10.96.0.53"
    template = objects["Deployment"]["spec"]["template"]
    assert objects["Service"]["spec"]["selector"] == template["metadata"]["labels"]
    assert template["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"


def test_every_object_has_its_path_in_the_api() -> None:
    assert [object_path(o) for o in manifests.coredns(ClusterSpec(1))] == [
        "/api/v1/namespaces/kube-system/serviceaccounts/coredns",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles/coredns",
        "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/coredns",
        "/api/v1/namespaces/kube-system/configmaps/coredns",
        "/apis/apps/v1/namespaces/kube-system/deployments/coredns",
        "/api/v1/namespaces/kube-system/services/kube-dns",
    ]
