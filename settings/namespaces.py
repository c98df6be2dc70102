"""What must hold for namespaces and policies together with the rest of the stack."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from settings.access_models import AccessRule
from settings.draft import Draft
from settings.namespace_models import RESERVED, Namespace
from settings.problems import Problem, join
from settings.protocols import HTTP, protocol_of
from settings.revision_names import revisions_of, tags_of
from settings.workload_models import Workload

_OWN_LABELS = {
    "istio-injection": "give injection",
    "istio.io/rev": "give injection",
    "kubernetes.io/metadata.name": "leave it out, it is the namespace's name",
}


@dataclass(frozen=True, kw_only=True)
class _Port:
    """A port of a workload that a rule may be about."""

    workload: str
    name: str
    number: int

    @property
    def is_http(self) -> bool:
        """Whether requests to it have methods and paths; where the name does not say, they may."""
        return protocol_of(self.name) in HTTP | {""}


def check_namespaces(draft: Draft) -> Iterator[Problem]:
    """Yield what is wrong with namespaces and policies."""
    for name, namespace in draft.namespaces.items():
        yield from _namespace(draft, name, namespace)
        path = ("namespaces", name, "access")
        inside = [port for port in _ports(draft.workloads) if draft.workloads[port.workload].namespace == name]
        for index, rule in enumerate(namespace.access or ()):
            yield from _unnamed_ports(rule, *path, index)
            yield from _rule(draft, name, rule, inside, *path, index)
    for name, workload in draft.workloads.items():
        path = ("workloads", name, "access")
        if workload.access is not None and workload.vms and not workload.meshed_vms:
            what = "there is no sidecar that would see to it: all its VMs are static"
            yield Problem(path=join(*path), what=what, right="leave it out")
        for index, rule in enumerate(workload.access or ()):
            yield from _own_ports(name, workload, rule, *path, index)
            yield from _rule(draft, workload.namespace, rule, list(_ports({name: workload})), *path, index)


def _namespace(draft: Draft, name: str, namespace: Namespace) -> Iterator[Problem]:
    """Yield what is wrong with a namespace itself."""
    if name in RESERVED:
        yield Problem(
            path=join("namespaces", name),
            what="a namespace that is the cluster's or Istio's own",
            right="istio.mutualTls for the whole mesh, or leave it out",
        )
    for label in (label for label in namespace.labels if label in _OWN_LABELS):
        path = join("namespaces", name, "labels", label)
        yield Problem(path=path, what="not for the user to set here", right=_OWN_LABELS[label])
    yield from _pod_security(name, namespace)
    resident = next((key for key, workload in draft.workloads.items() if workload.namespace == name), None)
    path, injection = join("namespaces", name, "injection"), namespace.injection
    if injection in {None, "disabled", "byPod"}:
        return
    if resident is not None:
        yield Problem(
            path=path,
            what=f"pods that know nothing of the mesh would get sidecars beside the VMs of workloads.{resident}",
            got=injection,
            right="disabled, or byPod for pods that ask for one by the label sidecar.istio.io/inject",
        )
    elif injection != "enabled" and draft.istio is not None and draft.istio.install == "helm":
        known = {*(revision or "default" for revision in revisions_of(draft.istio)), *tags_of(draft.istio)}
        if injection not in known:
            what = "no control plane of this stack has that revision or tag, so its pods would get no sidecar"
            right = f"enabled, disabled, byPod or {', '.join(sorted(map(str, known)))}"
            yield Problem(path=path, what=what, got=injection, right=right)


def _pod_security(name: str, namespace: Namespace) -> Iterator[Problem]:
    """Yield labels of Pod Security that Kubernetes refuses."""
    for label, value in namespace.labels.items():
        prefix, _, field = label.partition("/")
        mode, versioned = field.removesuffix("-version"), field.endswith("-version")
        if prefix != "pod-security.kubernetes.io" or mode not in ("enforce", "audit", "warn"):
            continue
        pattern = r"latest|v1\.(0|[1-9][0-9]*)" if versioned else "privileged|baseline|restricted"
        if not re.fullmatch(pattern, value):
            path, right = join("namespaces", name, "labels", label), "privileged, baseline or restricted"
            right = "latest, or a version as in v1.34" if versioned else right
            yield Problem(path=path, what="not one of its values", got=value, right=right)


def _ports(workloads: Mapping[str, Workload]) -> Iterator[_Port]:
    for name, workload in workloads.items():
        for port, number in workload.ports.items():
            yield _Port(workload=name, name=port, number=number)


def _unnamed_ports(rule: AccessRule, *path: str | int) -> Iterator[Problem]:
    """Yield names of ports where only numbers mean something."""
    for index, port in enumerate(rule.ports or ()):
        if isinstance(port, str):
            what, right = (
                "a name, and a namespace has no names for ports",
                "the number at which the application listens",
            )
            yield Problem(path=join(*path, "ports", index), what=what, got=port, right=right)


def _own_ports(name: str, workload: Workload, rule: AccessRule, *path: str | int) -> Iterator[Problem]:
    """Yield ports that are none of the workload's."""
    for index, port in enumerate(rule.ports or ()):
        known = workload.ports if isinstance(port, str) else workload.ports.values()
        if port not in known and (workload.ports or isinstance(port, str)):
            ports = ", ".join(f"{key} ({number})" for key, number in workload.ports.items())
            right = f"one of {ports}; a service's own number is not asked for" if ports else "name it under ports first"
            yield Problem(path=join(*path, "ports", index), what="none of the workload's ports", got=port, right=right)


def _rule(
    draft: Draft, namespace: str, rule: AccessRule, ports: Sequence[_Port], *path: str | int
) -> Iterator[Problem]:
    """Yield what a rule asks for that no request has."""
    yield from _callers(draft, rule, *path)
    if rule.from_ is not None and (mode := _without_tls(draft, namespace)):
        what = f"nobody proves who calls without mutual TLS, and {mode} is DISABLE"
        yield Problem(path=join(*path, "from"), what=what, right="STRICT or PERMISSIVE there, or a rule without from")
    asked = [port for port in ports if rule.ports is None or {port.name, port.number} & set(rule.ports)]
    odd = next((port for port in asked if not port.is_http), None)
    if rule.asks_http and odd is not None:
        key = "methods" if rule.methods is not None else "paths"
        protocol = protocol_of(odd.name).lower()
        yield Problem(
            path=join(*path, key),
            what=f"never matches at port {odd.name} of workloads.{odd.workload}, where nobody would get in: its "
            f"protocol is {protocol}",
            right="a rule with only HTTP ports under ports, and one without methods and paths for the others",
        )


def _callers(draft: Draft, rule: AccessRule, *path: str | int) -> Iterator[Problem]:
    """Yield callers that are no workload, or a workload that cannot prove who it is."""
    for index, caller in enumerate(rule.from_ or ()):
        if caller == "*" or "/" in caller:
            continue
        workload = draft.workloads.get(caller)
        if workload is None:
            what, right = "names no workload of this stack", "a workload, or <namespace>/<service account> for pods"
        elif workload.vms and not workload.meshed_vms:
            what, right = "a workload whose VMs are all static, which cannot prove who they are", "leave it out"
        else:
            continue
        yield Problem(path=join(*path, "from", index), what=what, got=caller, right=right)


def _without_tls(draft: Draft, namespace: str) -> str:
    """Return the key that switches mutual TLS off in a namespace; empty where it is on."""
    said = draft.namespaces.get(namespace)
    if said is not None and said.mutual_tls is not None:
        return join("namespaces", namespace, "mutualTls") if said.mutual_tls == "DISABLE" else ""
    return "istio.mutualTls" if draft.istio is not None and draft.istio.mutual_tls == "DISABLE" else ""
