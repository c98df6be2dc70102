"""Configuration files of a node and the objects a fresh cluster needs, as data computed from its description."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab import paths
from lab.commands import CNI_CONFIGURATION, CNI_PROGRAMS
from lab.spec import ClusterSpec

PAUSE_IMAGE = "lab.local/pause:1"
COREDNS_IMAGE = "lab.local/coredns:1"
_COREFILE = """.:53 {
    errors
    ready
    kubernetes cluster.local in-addr.arpa
    cache 5
}
"""


def kubelet(cluster: ClusterSpec, logs: Path) -> dict[str, Any]:
    """Return the kubelet's configuration: pods in the lab's control groups, hardly any eviction."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(cluster.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(cluster.pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(cluster.pki / "kubelet.key"),
        "clusterDNS": [cluster.dns_address],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{cluster.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{paths.CGROUP}/{cluster.process('pods')}",
        "failSwapOn": False,
        "failCgroupV1": False,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "1%",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "podLogsDir": str(logs / f"pods-{cluster.name}"),
        "resolvConf": "",
        "registerNode": True,
        "serializeImagePulls": False,
        "volumePluginDir": str(cluster.data / "volume-plugins"),
        "fileCheckFrequency": "0s",
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
    }


def containerd(cluster: ClusterSpec, *, runc: Path) -> str:
    """Return containerd's configuration (TOML): every folder and socket the lab's own."""
    cri = '[plugins."io.containerd.grpc.v1.cri"'
    return f"""version = 2
root = "{cluster.data}/containerd"
state = "{cluster.run}/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.tracing",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = "{cluster.containerd_socket}"

[ttrpc]
  address = "{cluster.containerd_socket}.ttrpc"

[plugins."io.containerd.internal.v1.opt"]
  path = "{cluster.data}/containerd-opt"

{cri}]
  sandbox_image = "{PAUSE_IMAGE}"
  enable_unprivileged_ports = true
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true

{cri}.cni]
  bin_dir = "{CNI_PROGRAMS}"
  conf_dir = "{CNI_CONFIGURATION}"

{cri}.containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"

{cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

{cri}.containerd.runtimes.runc.options]
  BinaryName = "{runc}"
  Root = "{cluster.run}/runc"
"""


def cni(cluster: ClusterSpec) -> dict[str, Any]:
    """Return the pod network: routed legs, so that every packet passes the node's rules; flat, so no masquerading."""
    return {
        "cniVersion": "1.0.0",
        "name": f"ivm-{cluster.name}",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(cluster.data / "cni-addresses"),
                    "ranges": [[{"subnet": cluster.node_pod_range}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def coredns(cluster: ClusterSpec) -> list[dict[str, Any]]:
    """Return the cluster's DNS: account, rights, configuration, deployment, service."""
    meta = {"name": "coredns", "namespace": "kube-system"}
    labels = {"k8s-app": "kube-dns"}
    verbs = ["list", "watch"]
    container = {
        "name": "coredns",
        "image": COREDNS_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
    }
    pod = {
        "serviceAccountName": "coredns",
        "dnsPolicy": "Default",
        "priorityClassName": "system-cluster-critical",
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "coredns"},
            "rules": [
                {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": verbs},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs},
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "coredns"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "coredns"},
            "subjects": [{"kind": "ServiceAccount", **meta}],
        },
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"Corefile": _COREFILE}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {
                "clusterIP": cluster.dns_address,
                "selector": labels,
                "ports": [
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                    {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                ],
            },
        },
    ]
