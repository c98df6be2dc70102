"""pyinfra: a VM becomes a member of the mesh."""

from io import StringIO
from pathlib import Path

from pyinfra import host
from pyinfra.facts.deb import DebPackages
from pyinfra.operations import files, server, systemd
from pyinfra.operations.util import any_changed

source = Path(host.data.work) / "files" / host.data.vm
FILES = {
    "root-cert.pem": ("/etc/certs/root-cert.pem", "644"),
    "cluster.env": ("/var/lib/istio/envoy/cluster.env", "644"),
    "mesh.yaml": ("/etc/istio/config/mesh", "644"),
    "istio-token": ("/var/run/secrets/tokens/istio-token", "600"),
}
changes = []
if host.data.version not in host.get_fact(DebPackages).get("istio-sidecar", ()):
    package = "/var/cache/istio-sidecar.deb"
    changes.append(
        server.shell(
            name="package",
            commands=[
                f"curl -fsS -o {package} {host.data.url}",
                f"echo '{host.data.sha256} {package}' | sha256sum -c --quiet",
                f"dpkg -i {package}",
            ],
        )
    )
for folder in (
    "/etc/certs",
    "/etc/istio/config",
    "/etc/istio/proxy",
    "/var/lib/istio/envoy",
    "/var/run/secrets/tokens",
):
    files.directory(path=folder, user="istio-proxy", mode="755")
for name, (target, mode) in FILES.items():
    content = StringIO((source / name).read_text())
    put = files.put(src=content, dest=target, user="istio-proxy", mode=mode)
    if name != "root-cert.pem":  # the agent writes it anew itself, so it differs each time
        changes.append(put)
changes.append(files.block(path="/etc/hosts", content=(source / "hosts").read_text().strip()))
server.shell(
    name="connection tracking",
    commands=[
        "iptables -C INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT 2>/dev/null || "
        "iptables -I INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT"
    ],
)
systemd.service(service="istio", enabled=True, running=None, daemon_reload=True)
server.shell(name="restart", commands=["systemctl restart --no-block istio; sleep 0.5"], _if=any_changed(*changes))
server.shell(
    name="ready",
    commands=[
        "until curl -fs -o /dev/null -m 2 http://localhost:15021/healthz/ready && [ -s /etc/certs/cert-chain.pem ]; "
        "do sleep 0.2; done"
    ],
)
