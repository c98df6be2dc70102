"""Stacks for hypothesis of which any part may be wrong: made from the settings' models, by values that are often right.

`pruned` takes what is refused out of a stack until nothing is: what is left of a spoiled stack is tried like any other.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import authorities
from hypothesis import strategies as st
from settings_samples import DIGEST, PRIVATE_KEY
from tls import Authority

from settings import Settings, SettingsError, parse
from settings.ingress_models import IngressGateway
from settings.model import Model
from settings.models import Istio
from settings.namespace_models import Namespace
from settings.service_models import MeshService
from settings.traffic_models import HostTraffic
from settings.workload_models import Workload

Config = dict[str, Any]

NAMESPACES = ["agree-1", "agree-2"]
WORKLOADS = ["billing", "ledger"]
SERVICES = ["files", "partner"]
CA = {"certificate": "ca/certificate", "key": "ca/key", "root": "ca/root"}
"""An authority whose files are in `project`."""
CERTIFICATE = {"certificateFile": "shop.crt", "privateKeyFile": "shop.key", "clientCaFile": "ca.crt"}
"""A certificate whose files are there too."""
CERTIFIED = ["shop.example.com", "*.bank.example.com"]
"""The hosts that it is for."""
HOSTS = [f"{name}.{NAMESPACES[0]}.svc.cluster.local" for name in [*WORKLOADS, "pods"]]
OUTER_HOSTS = ["files.example.com", "partner.example.com", "*.example.org", "x"]
DURATIONS = ["2s", "250ms", "1h", "1.5s", "1ms", "0s", "0.1ms", "10", "90m", "1s1s", "100000h"]
LABELS = [
    {"version": "v1"},
    {"version": "v2"},
    {"app": "billing"},
    {"app": "billing", "version": "v1"},
    {"a.b/c": ""},
]
ADDRESSES = [
    "10.77.0.21",
    "10.77.0.22",
    "10.77.0.23",
    "10.0.0.0/8",
    "256.1.1.1",
    "127.0.0.1",
    "fd00::1",
    "a.example.com",
]
REGIONS = ["eu", "us", "eu/a", "us/b/*", "*"]
POOLS: Mapping[str, Sequence[Any]] = {
    "host": [*HOSTS, *OUTER_HOSTS, "billing"],
    "hosts": [*OUTER_HOSTS, HOSTS[0]],
    "namespace": NAMESPACES,
    "serviceAccount": ["billing", "ledger", "Upper"],
    "subset": ["v1", "v2", "v3"],
    "podSubsets": ["v1", "v2"],
    "selector": LABELS,
    "labels": LABELS,
    "path": ["/", "/api", "/a b", "api", "/%"],
    "paths": ["/", "/api/*", "*/info", "*", "/a*b", "a", "/{*}"],
    "methods": ["GET", "POST", "get"],
    "from": [*WORKLOADS, "agree-1/default", "agree-2/*", "*", "spiffe://cluster.local/ns/a/sa/b", "a b"],
    "ports": [80, 8080, "http", 70000],
    "exportTo": [".", "*", "~", "agree-2", "none"],
    "addresses": ["240.1.1.1", "10.9.0.0/16", "10.9.0.0/33", "x"],
    "address": ADDRESSES,
    "retryOn": [
        "5xx",
        "connect-failure,reset,503",
        "503",
        "5xx,,",
        "sometimes",
        "cancelled,unavailable",
        "retriable-4xx",
    ],
    "regex": ["a.*", "[a", "(?=x)", ".", "a{1001}"],
    "exact": ["a", "/a", "", " "],
    "prefix": ["a", "/a", "/", ""],
    "grpcStatus": ["UNAVAILABLE", "14", "NONSENSE"],
    "httpStatus": [200, 503, 418, 99, 600],
    "subjectAltNames": ["spiffe://cluster.local/ns/a/sa/b", "a b", "x.example.com"],
    "injection": ["enabled", "disabled", "byPod", "canary", "Bad_"],
    "annotations": [
        {},
        {"a.b/c": "d"},
        {"proxy.istio.io/config": "concurrency: 1"},
        {"proxy.istio.io/config": "["},
        {"proxy.istio.io/config": "drainDuration: x"},
    ],
    "network": ["net1", "net2", "Net_3"],
    "locality": REGIONS,
    "failoverPriority": ["topology.kubernetes.io/region", "version", "topology.istio.io/network", "a=b", ""],
    "httpHeaderName": ["x-user", "Cookie", "a b"],
    "httpCookieName": ["user", ""],
    "command": [["true"], ["sh", "-c", "x"], [], [""]],
    "name": ["X-Probe", "x", "a b", ""],
    "values": [
        {},
        {"meshConfig": {"defaultConfig": {"concurrency": 1}}},
        {"meshConfig": {"defaultConfig": {"proxyMetadata": {"A": True}}}},
        {"meshConfig": {8080: "a"}},
        {"global": {"proxy": "x"}},
        {"sidecarInjectorWebhook": {"reinvocationPolicy": "Always"}},
        {"telemetry": {"v2": None}},
    ],
    "to": [*HOSTS, *OUTER_HOSTS, "v2"],
    "revision": ["", "canary", "blue", "prod", "Bad_", "a" * 49],
    "revisionTags": ["prod", "next", "default", "canary", "Bad_"],
    "version": ["1.31.1", "1.31.2"],
    "charts": ["charts", "charts", "nowhere"],
    "hub": ["docker.io/istio", "mirror.example.com:5000/istio", "a b"],
    "tag": ["1.31.1-distroless", "dev", "a b"],
    "meshId": ["mesh1", "mesh2", "a b"],
    "trustDomain": ["cluster.local", "corp.example.com", "A_b"],
    "valuesFiles": ["values-a.yaml", "values-b.yaml", "values-bad.yaml", "nowhere.yaml"],
    "secret": ["shop", "there", "a.b", "Bad_"],
    "certificate": [CA["certificate"], CA["certificate"], CA["root"], CA["key"]],
    "key": [CA["key"], CA["key"], "shop.key", "nowhere"],
    "root": [CA["root"], CA["root"], CA["certificate"]],
    "chain": [CA["certificate"], CA["certificate"], CA["root"]],
    "certificateFile": ["shop.crt", "shop.crt", "ca.crt", "nowhere"],
    "privateKeyFile": ["shop.key", "shop.key", "ca/key"],
    "clientCaFile": ["ca.crt", "shop.crt", "shop.key"],
    "http": [80, 8080, 15006, 0],
    "https": [443, 8443, 80, 70000],
    "status": [15021, 8086, 80],
}
"""Values by key, right ones first; others are by type alone."""
KEYS: Mapping[str, Sequence[str]] = {
    "ports": ["http", "grpc-a", "tcp-b", "https", "a", "http2"],
    "targetPorts": ["http", "grpc-a"],
    "headers": ["x-user", "x-a", "Upper", ":authority", "a b"],
    "subsets": ["v1", "v2", "V"],
    "distribute": REGIONS,
    "failover": REGIONS,
    "hosts": [*CERTIFIED, "www.example.org", "a.b.bank.example.com", "shop", "*", "*.a.*", "a.1"],
    "certificates": ["shop", "other.name", "Bad_"],
    "revisions": ["canary", "green", "default", "blue", "Bad_", "a" * 49],
    "nodeLabels": ["node-1", "Node"],
}
PORTS: Sequence[Config] = [{"http": 80}, {"http": 80, "tcp-b": 9000}, {"https": 443}, {"grpc-a": 7000}]
FOUND: Sequence[Config] = [
    {"resolution": "STATIC", "endpoints": [{"address": "10.1.1.1"}, {"address": "10.1.1.2", "weight": 3}]},
    {"resolution": "STATIC", "selector": {"app": "billing"}, "pods": True, "namespace": NAMESPACES[0]},
    {"resolution": "DNS"},
    {"resolution": "DNS_ROUND_ROBIN", "endpoints": [{"address": "a.example.com"}]},
    {"resolution": "NONE"},
]
"""Ways in which a service finds who answers."""
SKIPPED = {"vms", "sidecar", "rollout", "ssh", "routes:Workload", "existing:CaSecret"}
"""Keys that are about hosts, and whose values lead to no object; and a Secret that would have to be there."""


@cache
def of_model(model: type[Model]) -> st.SearchStrategy[Config]:
    """Whatever a model knows, each optional key in some of the cases."""
    required: dict[str, st.SearchStrategy[Any]] = {}
    optional: dict[str, st.SearchStrategy[Any]] = {}
    for field in model.model_fields.values():
        key = str(field.alias)
        if key in SKIPPED or f"{key}:{model.__name__}" in SKIPPED:
            continue
        (required if field.is_required() else optional)[key] = of_type(field.annotation, key)
    return st.fixed_dictionaries(required).flatmap(
        lambda given: (
            st.lists(st.sampled_from(sorted(optional)), max_size=6, unique=True).flatmap(
                lambda keys: st.fixed_dictionaries({key: optional[key] for key in keys}).map(
                    lambda more: {**given, **more}
                )
            )
            if optional
            else st.just(given)
        )
    )


def of_type(annotation: Any, key: str) -> st.SearchStrategy[Any]:
    """Values of a type, as far as possible from the pool of the key."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return of_type(arguments[0], key)
    if origin in (Union, UnionType):
        return st.one_of(*(of_type(part, key) for part in arguments if part is not type(None)))
    if origin is Literal:
        return st.sampled_from(arguments)
    if isinstance(annotation, type) and issubclass(annotation, Model):
        return of_model(annotation)
    if key in POOLS and not (isinstance(origin, type) and issubclass(origin, Mapping) and key in KEYS):
        values = _mostly_right(POOLS[key])
        sequence = isinstance(origin, type) and issubclass(origin, Sequence)
        return st.lists(values, max_size=2, min_size=1) if sequence and key != "command" else values
    if isinstance(origin, type) and issubclass(origin, Mapping):
        keys = st.sampled_from(KEYS.get(key, ["a", "b"]))
        return st.dictionaries(keys, of_type(arguments[1], "value"), min_size=1, max_size=3)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return st.lists(of_type(arguments[0], key), min_size=1, max_size=3)
    if annotation is bool:
        return st.booleans()
    if annotation is int and key in ("value", "number"):
        return _mostly_right([80, 8080, 9000, 443, 0, -1, 70000])
    if annotation is int:
        return _mostly_right([1, 50, 2, 80, 100, 8080, 0, -1, 70000])
    return _mostly_right([*DURATIONS, "v1", "a", "A b", ""])


def _mostly_right(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    first = st.sampled_from(values[:2])
    return st.one_of(*[first] * 6, st.sampled_from(values))


@st.composite
def workloads(draw: st.DrawFn) -> Config:
    """Workloads with VMs that need no connection, in versions that traffic rules may tell apart."""
    found: Config = {}
    for number, name in enumerate(draw(st.lists(st.sampled_from(WORKLOADS), max_size=2, unique=True))):
        said = draw(of_model(Workload))
        vms = {
            f"{name}-{count}": {"address": f"10.77.{number}.{20 + count}", "static": True, "labels": LABELS[count - 1]}
            for count in (1, 2)
        }
        right: Config = {"ports": {"http": 8080}, "service": {"ports": {"http": 80}}, "namespace": NAMESPACES[0]}
        right |= {"labels": {"app": name}, "serviceAccount": name}
        found[name] = {**said, **(right if draw(st.integers(0, 3)) else {}), "vms": vms}
    return found


@st.composite
def traffic(draw: st.DrawFn) -> Config:
    """Rules for hosts of the stack, most with two subsets that share the requests."""
    found: Config = {}
    for host in draw(st.lists(st.sampled_from([*HOSTS, *OUTER_HOSTS[:3]]), min_size=1, max_size=3, unique=True)):
        said = draw(of_model(HostTraffic))
        if draw(st.integers(0, 3)):
            first = draw(st.sampled_from([90, 50, 100, 0, 101]))
            said["subsets"] = {"v1": {"version": "v1"}, "v2": {"version": "v2"}}
            said["routes"] = [{"subset": "v1", "weight": first}, {"subset": "v2", "weight": 100 - first}]
            said["podSubsets"] = ["v1", "v2"] if host == HOSTS[2] else []
        found[host] = said
    return found


@st.composite
def any_stacks(draw: st.DrawFn) -> Config:
    """A stack, of which nearly always something is wrong."""
    services = draw(st.dictionaries(st.sampled_from(SERVICES), of_model(MeshService), max_size=2))
    for name, service in services.items():
        if draw(st.integers(0, 3)):
            service |= {
                "hosts": [f"{name}.example.com"],
                "ports": draw(st.sampled_from(PORTS)),
                **draw(st.sampled_from(FOUND)),
            }
    spaces = st.dictionaries(st.sampled_from(NAMESPACES), of_model(Namespace), max_size=2)
    parts = {"workloads": draw(workloads()), "traffic": draw(traffic()), "services": services}
    istio = {"version": "1.31.1", **draw(of_model(Istio)), **(base()["istio"] if draw(st.integers(0, 7)) < 7 else {})}
    gateway = {**draw(of_model(IngressGateway)), **({"enabled": True} if draw(st.integers(0, 3)) < 3 else {})}
    if draw(st.integers(0, 3)) < 3:
        gateway |= {"ports": {"http": 80, "https": 443}, "certificates": {"shop": CERTIFICATE}}
    return {**base(), **parts, "namespaces": draw(spaces), "istio": istio, "ingressGateway": gateway}


def base() -> Config:
    """What every stack needs besides; its files are `project`'s."""
    return {
        "cluster": {"name": "cluster1", "network": "net1"},
        "istio": {"version": "1.31.1", "charts": "charts"},
        "eastWestGateway": {"service": "none"},
        "hosts": {
            "sidecar": {"amd64": {"deb": {"url": "http://mirror/x.deb", "sha256": DIGEST}}},
            "ssh": {"privateKeyFile": "id"},
        },
        "workloads": {},
    }


def project(folder: Path) -> Path:
    """Make a folder with the files that `base` names."""
    for chart in ("base", "istiod", "gateway", "cni"):
        (folder / "charts" / chart).mkdir(parents=True)
        (folder / "charts" / chart / "Chart.yaml").touch()
    (folder / "id").write_text(PRIVATE_KEY)
    (folder / "id").chmod(0o600)
    (folder / "values-a.yaml").write_text("env: {A: a}\n")
    (folder / "values-b.yaml").write_text("meshConfig: {accessLogFile: /dev/stdout}\n")
    (folder / "values-bad.yaml").write_text("global: {hub: here}\n")
    root = authorities.make("root")
    authorities.put(folder / "ca", certificate=authorities.make("istiod", root), root=root.pem)
    Authority(folder).issue("shop", *CERTIFIED)
    return folder


def pruned(stack: Config, folder: Path) -> tuple[Settings, Config]:
    """The settings of a stack, and of it what is not refused."""
    stack = copy.deepcopy(stack)
    for _ in range(60):
        try:
            return parse(stack, project_dir=folder), stack
        except SettingsError as error:
            # One of each entry at a time: what else is wrong there may be wrong because of it.
            for keys in {tuple(keys[:2]): keys for keys in map(_keys, [p.path for p in error.problems])}.values():
                _take_out(stack, keys)
    raise AssertionError(f"nothing of the stack is right: {stack}")


def _keys(path: str) -> list[str | int]:
    tokens = re.findall(r'\["((?:[^"\\]|\\.)*)"\]|^"((?:[^"\\]|\\.)*)"|\[(\d+)\]|([^.\[\]"]+)', path)
    return [
        int(number) if number else json.loads(f'"{quoted or first}"') if quoted or first else plain
        for quoted, first, number, plain in tokens
    ]


def _take_out(stack: Any, keys: Sequence[str | int]) -> None:
    """Take away what a path leads to; where something is missing, what it is missing in."""
    way: list[tuple[Any, str | int]] = []
    here = stack
    for key in keys:
        there = (
            key in here
            if isinstance(here, dict)
            else isinstance(here, list) and isinstance(key, int) and key < len(here)
        )
        if not there:
            break
        way.append((here, key))
        here = here[key]
    assert way, keys
    above, key = way[-1]
    assert len(way) > 1 or key not in base(), keys
    del above[key]
