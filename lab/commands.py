"""Argument lists of every process of a cluster, computed from its description and the tools' places."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lab import network
from lab.pki import ADMIN, CA, SERVICE_ACCOUNT_KEY
from lab.spec import ClusterSpec

if TYPE_CHECKING:
    from lab.toolchain import Tools

_CLIENT_URL = "http://127.0.0.1:2379"
_PEER_URL = "http://127.0.0.1:2380"

_PRIVATE_MOUNTS = """set -e
for pair in "$@"; do
    shift
    [ "$pair" = -- ] && break
    mount --bind "${pair%%:*}" "${pair#*:}"
done
exec "$@"
"""
"""Shell text: bind mounts given as from:to up to `--`, then the command."""

COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "containerd",
    "kubelet",
    "kube-proxy",
    "load-balancer",
)
"""Names of a cluster's processes."""

CNI_PROGRAMS, CNI_CONFIGURATION = "/opt/cni/bin", "/etc/cni/net.d"
"""Where DaemonSets that bring a CNI plugin look for the node's."""

HARD_WIRED = (
    "/run/containerd",
    "/run/istio-cni",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    CNI_PROGRAMS,
    CNI_CONFIGURATION,
)
"""Folders that programs of a node use whatever their configuration says: each node sees its own there."""


def etcd(cluster: ClusterSpec, tools: Tools) -> list[str]:
    """Return etcd's command: one member, on the node's loopback, without waiting for the disk."""
    return network.inside(
        cluster.namespace,
        str(tools.etcd),
        f"--data-dir={cluster.data / 'etcd'}",
        f"--listen-client-urls={_CLIENT_URL}",
        f"--advertise-client-urls={_CLIENT_URL}",
        f"--listen-peer-urls={_PEER_URL}",
        f"--initial-advertise-peer-urls={_PEER_URL}",
        f"--initial-cluster=default={_PEER_URL}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    )


def apiserver(cluster: ClusterSpec, tools: Tools) -> list[str]:
    """Return the API server's command."""
    pki = cluster.pki
    return network.inside(
        cluster.namespace,
        str(tools.kube_apiserver),
        f"--etcd-servers={_CLIENT_URL}",
        "--secure-port=6443",
        "--bind-address=0.0.0.0",
        f"--advertise-address={cluster.address}",
        f"--tls-cert-file={pki}/apiserver.crt",
        f"--tls-private-key-file={pki}/apiserver.key",
        f"--client-ca-file={pki}/{CA}.crt",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/{SERVICE_ACCOUNT_KEY}.pub",
        f"--service-account-signing-key-file={pki}/{SERVICE_ACCOUNT_KEY}.key",
        f"--service-cluster-ip-range={cluster.service_range}",
        "--service-node-port-range=30000-32767",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
        f"--kubelet-certificate-authority={pki}/{CA}.crt",
        f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
        f"--proxy-client-key-file={pki}/front-proxy-client.key",
        f"--requestheader-client-ca-file={pki}/{CA}.crt",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--profiling=false",
    )


def controller_manager(cluster: ClusterSpec, tools: Tools) -> list[str]:
    """Return the controller manager's command."""
    pki = cluster.pki
    return network.inside(
        cluster.namespace,
        str(tools.kube_controller_manager),
        f"--kubeconfig={pki}/controller-manager.kubeconfig",
        f"--service-account-private-key-file={pki}/{SERVICE_ACCOUNT_KEY}.key",
        f"--root-ca-file={pki}/{CA}.crt",
        f"--cluster-signing-cert-file={pki}/{CA}.crt",
        f"--cluster-signing-key-file={pki}/{CA}.key",
        f"--cluster-cidr={cluster.pod_range}",
        "--allocate-node-cidrs=true",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--node-monitor-period=1s",
        "--kube-api-qps=100",
        "--kube-api-burst=200",
        "--profiling=false",
    )


def scheduler(cluster: ClusterSpec, tools: Tools) -> list[str]:
    """Return the scheduler's command."""
    return network.inside(
        cluster.namespace,
        str(tools.kube_scheduler),
        f"--kubeconfig={cluster.pki}/scheduler.kubeconfig",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    )


def containerd(cluster: ClusterSpec, tools: Tools) -> list[str]:
    """Return containerd's command: in a mount namespace of its own, which the kubelet joins.

    All mounts of pods are made there, so they are gone when the last process in it is, however that came about.
    """
    binds = [f"{private_folder(cluster, folder)}:{folder}" for folder in HARD_WIRED]
    return network.inside(
        cluster.namespace,
        *("/usr/bin/unshare", "--mount", "--propagation=private", "--"),
        *("/bin/sh", "-c", _PRIVATE_MOUNTS, "private-mounts", *binds, "--"),
        *(str(tools.containerd), f"--config={cluster.data / 'containerd.toml'}", "--log-level=warn"),
    )


def private_folder(cluster: ClusterSpec, folder: str) -> Path:
    """Return what a node sees in place of one of the hard-wired folders."""
    return cluster.data / "private" / folder.strip("/").replace("/", "-")


def kubelet(cluster: ClusterSpec, tools: Tools, *, mounts_of: int) -> list[str]:
    """Return the kubelet's command.

    Args:
        cluster: Its cluster.
        tools: Where the tools lie.
        mounts_of: Id of the process (containerd) whose mount namespace it shares.
    """
    return [
        *("/usr/bin/nsenter", f"--net=/run/netns/{cluster.namespace}", f"--mount=/proc/{mounts_of}/ns/mnt", "--"),
        str(tools.kubelet),
        f"--config={cluster.data / 'kubelet.json'}",
        f"--kubeconfig={cluster.pki}/kubelet.kubeconfig",
        f"--hostname-override={cluster.node}",
        f"--node-ip={cluster.address}",
        f"--root-dir={cluster.data / 'kubelet'}",
        f"--cert-dir={cluster.data / 'kubelet-pki'}",
    ]


def kube_proxy(cluster: ClusterSpec, tools: Tools) -> list[str]:
    """Return kube-proxy's command: rules in the node's namespace only, connection tracking limits left as they are."""
    return network.inside(
        cluster.namespace,
        str(tools.kube_proxy),
        f"--kubeconfig={cluster.pki}/kube-proxy.kubeconfig",
        "--proxy-mode=iptables",
        f"--cluster-cidr={cluster.pod_range}",
        f"--hostname-override={cluster.node}",
        "--bind-address=0.0.0.0",
        "--conntrack-max-per-core=0",
        "--iptables-min-sync-period=100ms",
    )


def load_balancer(cluster: ClusterSpec, python: str) -> list[str]:
    """Return the load-balancer controller's command, on the node so that it can give the node its addresses."""
    kubeconfig = str(cluster.pki / f"{ADMIN}.kubeconfig")
    return network.inside(cluster.namespace, python, "-m", "lab.loadbalancer", str(cluster.number), kubeconfig)


def mirror(folder: Path, python: str) -> list[str]:
    """Return the package mirror's command."""
    return network.inside(network.MIRROR, python, "-m", "lab.mirror", str(folder))
