"""Starts one cluster as a set of tasks: certificates, control plane, node, images, DNS, each as soon as it can.

Every task looks first whether its work is already done, so the same tasks make a cluster, complete one whose start
was cut short and bring back a component that has died.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lab import cgroups, commands, machine, manifests, paths, pki, processes
from lab.api import Api
from lab.spec import ClusterSpec
from lab.tasks import Cancel, Task

if TYPE_CHECKING:
    from lab.toolchain import Tools

NETWORK_TASK = "network"
_SECONDS = 60
_IMPORT_SECONDS = 120


class Cluster:
    """One cluster with the tools it is made of."""

    def __init__(self, spec: ClusterSpec, tools: Tools) -> None:
        self.spec = spec
        self.tools = tools
        self.env = {
            "PATH": ":".join(map(str, (*tools.path_entries, "/usr/sbin", "/usr/bin", "/sbin", "/bin"))),
            "PYTHONPATH": str(paths.CHECKOUT),
            "PYTHONUNBUFFERED": "1",
            "HOME": "/root",
        }

    def tasks(self) -> list[Task]:
        """Return the tasks that start whatever of the cluster does not run."""
        name = self.spec.name

        def task(what: str, run: Callable[[Cancel], None], *after: str) -> Task:
            needs = tuple(need if need == NETWORK_TASK else f"{name}: {need}" for need in after)
            return Task(name=f"{name}: {what}", run=run, after=needs)

        return [
            task("certificates", self._certificates),
            task("API server", self._control_plane, "certificates", NETWORK_TASK),
            task("containerd", self._containerd, "certificates", NETWORK_TASK),
            task("import images", self._images, "containerd"),
            task("node", self._node, "API server", "containerd"),
            task("DNS", self._dns, "node", "import images"),
        ]

    def api(self) -> Api:
        """Return a client with the administrator's rights."""
        return Api(self.spec.pki / f"{pki.ADMIN}.kubeconfig")

    def _certificates(self, _: Cancel) -> None:
        done = self.spec.pki / ".done"
        if not done.exists():
            pki.create(self.spec)
            done.touch()
        target = paths.kubeconfig(self.spec.number)
        target.parent.mkdir(exist_ok=True)
        pki.write_private(target, (self.spec.pki / f"{pki.ADMIN}.kubeconfig").read_bytes())

    def _control_plane(self, cancel: Cancel) -> None:
        spec, tools = self.spec, self.tools
        self._start("etcd", commands.etcd(spec, tools))
        self._start("kube-apiserver", commands.apiserver(spec, tools))
        api = self.api()
        watch = self._watch("etcd", "kube-apiserver")
        cancel.until(lambda: api.ok("/readyz"), f"API server of {spec.name}", _SECONDS, watch)
        self._start("kube-controller-manager", commands.controller_manager(spec, tools))
        self._start("kube-scheduler", commands.scheduler(spec, tools))
        for manifest in manifests.coredns(spec):
            api.apply(manifest)

    def _containerd(self, cancel: Cancel) -> None:
        spec, tools = self.spec, self.tools
        if self._alive("containerd"):
            return
        machine.make_folders(*commands.HARD_WIRED)
        for folder in commands.HARD_WIRED:
            commands.private_folder(spec, folder).mkdir(parents=True, exist_ok=True)
        spec.run.mkdir(parents=True, exist_ok=True)
        config = manifests.containerd(spec, runc=tools.runc)
        (spec.data / "containerd.toml").write_text(config)
        (spec.data / "kubelet.json").write_text(json.dumps(manifests.kubelet(spec, paths.LOGS), indent=1))
        configuration = commands.private_folder(spec, commands.CNI_CONFIGURATION)
        processes.write_json(configuration / "10-lab.conflist", manifests.cni(spec))
        programs = commands.private_folder(spec, commands.CNI_PROGRAMS)
        for program in tools.cni_bin_dir.iterdir():
            (programs / program.name).unlink(missing_ok=True)
            (programs / program.name).symlink_to(program)
        self._start("containerd", commands.containerd(spec, tools))
        watch = self._watch("containerd")
        cancel.until(lambda: _connects(spec.containerd_socket), f"containerd of {spec.name}", _SECONDS, watch)

    def _images(self, _: Cancel) -> None:
        done = self.spec.data / "images-imported"
        if done.exists():
            return
        for image in self.tools.images:  # small ones first: the node's first pods need them
            command = ["--address", str(self.spec.containerd_socket), "--namespace", "k8s.io", "images", "import"]
            machine.run([str(self.tools.ctr), *command, str(image)], timeout=_IMPORT_SECONDS)
        done.touch()

    def _node(self, cancel: Cancel) -> None:
        spec, tools = self.spec, self.tools
        holder = processes.read(spec.process("containerd"))
        assert holder is not None, "the task containerd has run"
        cgroups.create(spec.process("pods"))
        self._start("kubelet", commands.kubelet(spec, tools, mounts_of=holder.pid))
        self._start("kube-proxy", commands.kube_proxy(spec, tools))
        self._start("load-balancer", commands.load_balancer(spec, sys.executable))
        api = self.api()
        cancel.until(
            lambda: _condition(api, f"/api/v1/nodes/{spec.node}", "Ready"),
            f"node {spec.node}",
            _SECONDS,
            self._watch("kubelet", "containerd", "kube-controller-manager", "kube-scheduler", "kube-proxy"),
        )

    def _dns(self, cancel: Cancel) -> None:
        api, path = self.api(), "/apis/apps/v1/namespaces/kube-system/deployments/coredns"
        cancel.until(lambda: _condition(api, path, "Available"), f"DNS of {self.spec.name}", _SECONDS)

    def _alive(self, component: str) -> bool:
        return processes.alive(self.spec.process(component))

    def _start(self, component: str, argv: Sequence[str]) -> None:
        if not self._alive(component):
            processes.spawn(self.spec.process(component), argv, env=self.env)

    def _watch(self, *components: str) -> Callable[[], str]:
        names = [self.spec.process(component) for component in components]

        def ended() -> str:
            for name in names:
                if not processes.alive(name):
                    log = str(paths.log(name))
                    return f"{name} has ended; the end of {log}:\n{processes.last_lines(log)}"
            return ""

        return ended


def _condition(api: Api, path: str, wanted: str) -> bool:
    if not api.ok(path):
        return False
    conditions = api.get(path).get("status", {}).get("conditions", [])
    return any(condition["type"] == wanted and condition["status"] == "True" for condition in conditions)


def _connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(os.fspath(path)) == 0
