"""The lab's load balancer: gives Services of type LoadBalancer an address of the node, as a cloud's controller would.

Runs as a process in the node's network namespace: `python -m lab.loadbalancer CLUSTER KUBECONFIG`. kube-proxy does
the forwarding; this only puts the address on the node's interface and writes it into the Service's status.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.api import Api, ApiError
from lab.spec import ClusterSpec

_WATCH_SECONDS = 300
HOST_NAME = "lab/load-balancer-name"
"""Annotation of a Service that is to have only a name."""
Key = tuple[str, str]


def assign(services: Sequence[Mapping[str, Any]], pool: Sequence[str]) -> dict[Key, str]:
    """Return the address of every Service of type LoadBalancer.

    A Service keeps what its status says; a new one gets what its `spec.loadBalancerIP` asks for, else the lowest free
    address. Those for which nothing is left are not in the result.
    """
    wanted = {_key(s): s for s in services if s["spec"].get("type") == "LoadBalancer" and not _deleted(s)}
    given: dict[Key, str] = {}
    for choice in (_current, _requested):
        for key, service in sorted(wanted.items()):
            address = choice(service)
            if key not in given and address in pool and address not in given.values():
                given[key] = address
    free = (address for address in pool if address not in set(given.values()))
    for key in sorted(set(wanted) - set(given)):
        address = next(free, "")
        if address:
            given[key] = address
    return given


def interface_changes(present: Sequence[str], given: Sequence[str], pool: Sequence[str]) -> list[tuple[str, str]]:
    """Return what to do to the node's interface, ("add" or "del", address); only addresses of the pool are touched."""
    mine = set(present) & set(pool)
    adds = [("add", address) for address in sorted(set(given) - mine)]
    return adds + [("del", address) for address in sorted(mine - set(given))]


def reconcile(api: Api, cluster: ClusterSpec) -> str:
    """Bring the interface and all statuses to what they should be.

    Returns:
        The resource version of the list that this was based on.
    """
    listed = api.get("/api/v1/services")
    services = listed["items"]
    given = assign(services, cluster.load_balancer_addresses)
    for verb, address in interface_changes(_present(), list(given.values()), cluster.load_balancer_addresses):
        subprocess.run(["ip", "addr", verb, f"{address}/32", "dev", "eth0"], check=True, timeout=10)
        print(f"{verb} {address}", flush=True)
    for service in services:
        namespace, name = key = _key(service)
        if key in given and _shown(service) != (wanted := point(service, given[key])):
            status = {"status": {"loadBalancer": {"ingress": [wanted]}}}
            api.patch(f"/api/v1/namespaces/{namespace}/services/{name}/status", status)
            print(f"{namespace}/{name} has {given[key]}", flush=True)
    return str(listed["metadata"]["resourceVersion"])


def point(service: Mapping[str, Any], address: str) -> dict[str, str]:
    """Return what a Service's status says: its address, or only the name that it asks for, as some clouds' do."""
    name = service["metadata"].get("annotations", {}).get(HOST_NAME)
    return {"hostname": name} if name else {"ip": address}


def main(number: int, kubeconfig: Path) -> None:
    """Reconcile for ever: at each event, and again whenever a watch ends."""
    cluster, api = ClusterSpec(number), Api(kubeconfig)
    while True:
        try:
            version = reconcile(api, cluster)
            for event in api.watch("/api/v1/services", version, _WATCH_SECONDS):
                if event["type"] != "BOOKMARK":
                    break
        except (OSError, http.client.HTTPException, ApiError, ValueError, subprocess.SubprocessError) as error:
            print(f"trying again: {error}", flush=True)
            time.sleep(1)


def _present() -> list[str]:
    show = ["ip", "-json", "-4", "addr", "show", "dev", "eth0"]
    done = subprocess.run(show, check=True, capture_output=True, text=True, timeout=10)
    return [info["local"] for link in json.loads(done.stdout) for info in link.get("addr_info", [])]


def _key(service: Mapping[str, Any]) -> Key:
    return service["metadata"]["namespace"], service["metadata"]["name"]


def _deleted(service: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" in service["metadata"]


def _current(service: Mapping[str, Any]) -> str:
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or [{}]
    return str(ingress[0].get("ip", ""))


def _shown(service: Mapping[str, Any]) -> dict[str, str]:
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or [{}]
    return {key: ingress[0][key] for key in ("ip", "hostname") if ingress[0].get(key)}


def _requested(service: Mapping[str, Any]) -> str:
    return str(service["spec"].get("loadBalancerIP", ""))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
