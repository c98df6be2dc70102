"""Stacks for hypothesis that are right as a whole: their parts fit together, as the checks between them want it.

`stacks` gives these, these with one part of another stack, and stacks of which any part may be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st
from pydantic import ValidationError
from settings_samples import HOST_KEY
from stack_strategies import (
    CA,
    CERTIFICATE,
    CERTIFIED,
    NAMESPACES,
    SERVICES,
    WORKLOADS,
    Config,
    any_stacks,
    base,
    of_model,
)

from settings.model import Model
from settings.traffic_models import Fault
from settings.traffic_policy_models import ConnectionPool, LoadBalancer, OutlierDetection
from settings.workload_models import Probe

PODS = f"pods.{NAMESPACES[0]}.svc.cluster.local"
"""A host of which the stack says nothing else."""
PORTS: dict[str, tuple[int, int]] = {"http": (8080, 80), "grpc-a": (7000, 7001), "tcp-b": (9000, 9001)}
"""A workload's ports by name: its own, and its service's."""
MATCHES: Sequence[Config] = [
    {"headers": {"x-user": {"exact": "a b"}}},
    {"headers": {"x-a": {"present": True}}, "method": "GET"},
    {"headers": {"x-b": {"regex": r"a{2,3}(?P<rest>[a-z]+)\.?"}}},
    {"path": {"prefix": "/api"}},
    {"path": {"regex": "/.*[0-9]"}, "method": "POST"},
    {"method": "DELETE"},
]
"""Conditions of which none takes all that another one takes."""
FOUND: Sequence[Config] = [
    {"resolution": "STATIC", "endpoints": [{"address": "10.1.1.1"}, {"address": "10.1.1.2", "weight": 3}]},
    {
        "endpoints": [
            {
                "address": "10.1.1.1",
                "ports": {"http": 8080},
                "labels": {"version": "v1"},
                "network": "net2",
                "locality": "eu/a/b",
                "serviceAccount": "files",
            }
        ]
    },
    {"selector": {"app": "pods"}, "pods": True, "targetPorts": {"http": 8081}},
    {"resolution": "DNS", "location": "MESH_EXTERNAL"},
    {"resolution": "DNS", "endpoints": [{"address": "a.example.com", "locality": "eu"}, {"address": "10.1.1.3"}]},
    {"resolution": "DNS_ROUND_ROBIN", "endpoints": [{"address": "a.example.com"}], "location": "MESH_EXTERNAL"},
    {"resolution": "NONE", "location": "MESH_EXTERNAL", "subjectAltNames": ["a.example.com"]},
]
LOCALITIES: Sequence[Config] = [
    {"enabled": False},
    {"distribute": {"eu": {"eu": 80, "us/b/*": 20}, "us/*": {"*": 100}}},
    {"failover": {"eu": "us", "us": "eu"}},
    {"failoverPriority": ["topology.kubernetes.io/region", "version=v1"]},
    {"failover": {"eu": "us"}, "failoverPriority": ["topology.istio.io/network", "version"]},
]


def some(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Config]:
    """Any of these keys."""
    return st.fixed_dictionaries({}, optional=optional)


def one_of(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def right(model: type[Model], otherwise: Config) -> st.SearchStrategy[Config]:
    """What a model takes by itself: of all that it knows, where that was right, else something simple."""

    def takes(said: Config) -> bool:
        try:
            model.model_validate(said)
        except ValidationError:
            return False
        return True

    return of_model(model).map(lambda said: said if takes(said) else otherwise)


@st.composite
def control_planes(draw: st.DrawFn) -> Config:
    """What a stack says of its Istio: presets and files of values, revisions and tags, an authority."""
    preset = draw(one_of("default", "minimal", "lab", "remote"))
    known: Config = {"preset": preset} if preset != "remote" else _remote()
    known |= draw(
        some(
            valuesFiles=one_of(["values-a.yaml"], ["values-a.yaml", "values-b.yaml"]),
            revision=one_of("", "blue"),
            revisionTags=one_of(["prod"], ["prod", "stable"]),
            revisions=one_of({"canary": {"revisionTags": ["next"]}}, {"canary": {"values": {"env": {"A": "b"}}}}),
            meshId=one_of("mesh1", "Mesh_2"),
            trustDomain=one_of("cluster.local", "corp.example.com"),
            mutualTls=one_of("STRICT", "PERMISSIVE"),
            caSecret=st.just(CA),
            cni=one_of({"enabled": True}, {"enabled": True, "values": {"cniLogLevel": "debug"}}),
            registrationGuard=st.booleans(),
            removeCrds=st.booleans(),
        )
    )
    if known.get("revision") and draw(st.booleans()):
        known["revisionTags"] = ["default"]
    return {**base()["istio"], **known}


def _remote() -> Config:
    return {"preset": "remote", "values": {"global": {"remotePilotAddress": "10.9.9.9"}}}


def tags(istio: Config) -> list[str]:
    """Every tag of a control plane and those beside it."""
    more = [tag for revision in istio.get("revisions", {}).values() for tag in revision.get("revisionTags", ())]
    return [*istio.get("revisionTags", ()), *more]


def revisions(istio: Config) -> list[str]:
    return [istio.get("revision") or "default", *istio.get("revisions", {})]


def callers() -> st.SearchStrategy[list[str]]:
    pods = ["agree-1/default", "agree-2/*", "*", "spiffe://cluster.local/ns/a/sa/b"]
    return st.lists(st.sampled_from(pods), min_size=1, max_size=2, unique=True)


def access(ports: Sequence[Any]) -> st.SearchStrategy[list[Config]]:
    """Rules that let requests in; some ask for what only HTTP has, at the first of these ports."""
    plain = st.fixed_dictionaries({"from": callers()}, optional={"ports": st.just(list(ports))})
    paths = one_of(["/api/*"], ["*/info", "/"], ["*"])
    web = st.fixed_dictionaries(
        {"ports": st.just(list(ports[:1])), "methods": one_of(["GET"], ["GET", "POST"])},
        optional={"from": callers(), "paths": paths},
    )
    return st.lists(plain | web, max_size=2)


@st.composite
def workloads(draw: st.DrawFn, istio: Config) -> Config:
    """Workloads with VMs of both kinds, in two versions."""
    found: Config = {}
    for number, name in enumerate(draw(st.lists(st.sampled_from(WORKLOADS), max_size=2, unique=True))):
        labels = {"app": name, **draw(one_of({}, {"version": "v1"}, {"a.b/c": ""}))}
        ports = draw(one_of(["http"], ["http", "grpc-a"], ["http", "grpc-a", "tcp-b"]))
        vms = {f"{name}-{count}": draw(machine(f"10.77.{number}.{count}")) for count in draw(one_of([1], [1, 2]))}
        workload: Config = {
            "namespace": draw(st.sampled_from(NAMESPACES)),
            "serviceAccount": draw(one_of(name, "a.b-c")),
            "labels": labels,
            "ports": {port: PORTS[port][0] for port in ports},
            "service": {"ports": {port: PORTS[port][1] for port in ports}},
            "vms": vms,
            **draw(
                some(
                    probe=right(Probe, {"tcpSocket": {"port": 8080}}),
                    network=one_of("net1", "net2"),
                    annotations=one_of({"proxy.istio.io/config": "concurrency: 1"}, {"a.b/c": "d"}),
                    revision=st.sampled_from(revisions(istio)),
                )
            ),
        }
        if draw(st.booleans()):
            workload["service"]["host"] = f"{name}.mesh.internal"
        if not all(vm.get("static") for vm in vms.values()) and draw(st.booleans()):
            workload["access"] = draw(access(ports))
        found[name] = workload
    return found


@st.composite
def machine(draw: st.DrawFn, address: str) -> Config:
    """A VM."""
    said: Config = {"address": address, **draw(some(labels=one_of({"version": "v1"}, {"version": "v2"})))}
    if draw(one_of(True, True, True, False)):
        return {**said, "static": True, **draw(some(weight=st.integers(1, 9)))}
    return {**said, "hostKey": HOST_KEY}


@st.composite
def services(draw: st.DrawFn) -> Config:
    """ServiceEntries, each with an address of its own."""
    found: Config = {}
    for number, name in enumerate(draw(st.lists(st.sampled_from(SERVICES), max_size=2, unique=True))):
        way = draw(st.sampled_from(FOUND))
        ports = (
            one_of({"http": 80}) if way.get("resolution") == "NONE" else one_of({"http": 80}, {"http": 80, "tcp": 9})
        )
        found[name] = {
            "namespace": draw(st.sampled_from(NAMESPACES)),
            "hosts": [f"{name}.example.com"],
            "ports": draw(ports),
            **way,
            **draw(
                some(
                    addresses=st.just([f"10.9.{number}.1"]),
                    exportTo=one_of(["."], ["*"], ["~"], [".", "elsewhere"]),
                )
            ),
        }
    return found


@st.composite
def namespaces(draw: st.DrawFn, istio: Config, residents: set[str]) -> Config:
    """What holds in the namespaces of workloads, and in another one."""
    found: Config = {}
    for name in draw(st.lists(st.sampled_from([*NAMESPACES, "agree-3"]), max_size=3, unique=True)):
        quiet = ["disabled", "byPod"]
        kinds = quiet if name in residents else [*quiet, "enabled", *revisions(istio), *tags(istio)]
        found[name] = draw(
            some(
                injection=st.sampled_from(kinds),
                labels=one_of({"team": "a"}, {"a.b/c": ""}),
                mutualTls=one_of("STRICT", "PERMISSIVE"),
                access=access([8080]),
            )
        )
        if name not in residents and draw(st.booleans()):
            found[name] = {**found[name], "mutualTls": "DISABLE", "access": []}
    return found


def hosts(stack: Config) -> dict[str, list[int]]:
    """Every host of a stack that HTTP requests are for, and its ports; none where nobody knows them."""
    found: dict[str, list[int]] = {PODS: []}
    for name, workload in stack["workloads"].items():
        service = workload["service"]
        full = service.get("host", f"{name}.{workload['namespace']}.svc.cluster.local")
        found[full] = list(service["ports"].values())
    return found | {service["hosts"][0]: list(service["ports"].values()) for service in stack["services"].values()}


def actions(others: Sequence[str]) -> st.SearchStrategy[Config]:
    """What happens to requests, without what a limit and a fault have to do with each other."""
    retries = st.fixed_dictionaries(
        {"attempts": st.integers(1, 5)},
        optional={
            "perTryTimeout": one_of("250ms", "1s"),
            "retryOn": one_of(
                "5xx", "connect-failure,reset,503", "cancelled,unavailable", "retriable-4xx,gateway-error"
            ),
        },
    )
    limits = some(timeout=one_of("1s", "1.5s", "90m"), retries=retries | st.just({"attempts": 0}))
    faults = some(fault=right(Fault, {"abort": {"httpStatus": 503}}))
    mirror = st.fixed_dictionaries(
        {"host": st.sampled_from(others), "port": st.just(80)}, optional={"percent": one_of(0, 1, 100)}
    )
    return st.tuples(limits | faults, some(mirror=mirror) if others else st.just({})).map(
        lambda two: {**two[0], **two[1]}
    )


@st.composite
def traffic(draw: st.DrawFn, stack: Config) -> Config:
    """Rules for some hosts: weights, matches, limits, and moves of requests."""
    found: Config = {}
    known = hosts(stack)
    for host in draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=3, unique=True)):
        others = [other for other, ports in known.items() if other != host and 80 in (ports or [80])]
        said: Config = draw(policies())
        first = draw(one_of(90, 50, 100, 0))
        weights = [{"subset": "v1", "weight": first}, {"subset": "v2", "weight": 100 - first}]
        move = {"from": "v1", "to": "v2", "at": first, **draw(some(step=one_of(1, 50), maxErrorRate=one_of(0, 0.5)))}
        routes = draw(one_of({"routes": weights}, {"migration": move}, {}))
        if routes:
            said |= {"subsets": {"v1": {"version": "v1"}, "v2": {"version": "v2", "app": "x"}}, **routes}
            said["podSubsets"] = ["v1", "v2"]
        elif others and draw(st.booleans()):
            said["routes"] = [{"host": draw(st.sampled_from(others)), "port": 80}]
        said |= draw(actions(others))
        matches = draw(st.lists(st.sampled_from(MATCHES), max_size=2, unique_by=str))
        if matches:
            routes = some(routes=st.just([{"host": PODS}])) if "mirror" not in said else st.just({})
            said["matches"] = [{**match, **draw(routes)} for match in matches]
        found[host] = said or {"timeout": "2s"}
    return found


@st.composite
def policies(draw: st.DrawFn) -> Config:
    """What holds for connections to a host."""
    said: Config = draw(
        some(
            connectionPool=right(ConnectionPool, {"tcp": {"maxConnections": 100}}),
            outlierDetection=right(OutlierDetection, {}),
            loadBalancer=right(LoadBalancer, {"simple": "RANDOM"}).map(_without_places),
        )
    )
    if draw(st.booleans()):
        said["loadBalancer"] = {**said.get("loadBalancer", {}), "locality": draw(st.sampled_from(LOCALITIES))}
        said.setdefault("outlierDetection", {"interval": "1s"})
    return said


def _without_places(balancer: Config) -> Config:
    return {"simple": balancer.get("simple", "ROUND_ROBIN")}


@st.composite
def ingress(draw: st.DrawFn, stack: Config) -> Config:
    """A gateway, with hosts over TLS and without."""
    known = hosts(stack)
    names = draw(st.lists(one_of(*CERTIFIED, "www.example.org", "*.example.net"), max_size=4, unique=True))
    found: Config = {
        "enabled": draw(one_of(True, True, True, False)),
        "namespace": draw(one_of("istio-system", "edge")),
        "service": draw(one_of("LoadBalancer", "NodePort", "ClusterIP")),
        "ports": {"http": 80, "https": 443, **draw(some(status=one_of(15021, 8086)))},
        "certificates": {"shop": CERTIFICATE},
        "hosts": {},
        **draw(
            some(
                annotations=one_of({"a.b/c": "d"}, {}),
                nodeSelector=st.just({"kubernetes.io/os": "linux"}),
                nodeLabels=st.just({"node-1": {"edge": "yes"}}),
                values=st.just({"autoscaling": {"enabled": False}}),
            )
        ),
    }
    for name in names:
        to = draw(st.sampled_from(sorted(known)))
        found["hosts"][name] = {"to": to, "port": draw(st.sampled_from(known[to] or [80]))}
        if draw(st.booleans()):
            secret = draw(one_of("shop", "there")) if name in CERTIFIED else "there.too"
            tls = some(mode=one_of("SIMPLE", "MUTUAL"), httpsRedirect=st.booleans())
            found["hosts"][name]["tls"] = {"secret": secret, **draw(tls)}
    return found


@st.composite
def whole_stacks(draw: st.DrawFn) -> Config:
    """A stack of which every part is right."""
    istio = draw(control_planes())
    stack: Config = {
        **base(),
        "istio": istio,
        "eastWestGateway": draw(one_of({}, {"service": "NodePort"}, {"exposeServices": False})),
        "workloads": draw(workloads(istio)),
        "services": draw(services()),
    }
    residents = {workload["namespace"] for workload in stack["workloads"].values()}
    stack["namespaces"] = draw(namespaces(istio, residents))
    stack["traffic"] = draw(traffic(stack))
    stack["ingressGateway"] = draw(ingress(stack))
    return stack


@st.composite
def stacks(draw: st.DrawFn) -> Config:
    """A stack: half of them are right, some have one part of another stack, and of the others any part may be wrong."""
    kind = draw(one_of("whole", "whole", "mixed", "any"))
    if kind == "any":
        return draw(any_stacks())
    stack = draw(whole_stacks())
    if kind == "mixed":
        part = draw(one_of("istio", "workloads", "services", "namespaces", "traffic", "ingressGateway"))
        stack[part] = draw(any_stacks()).get(part, {})
    return stack
