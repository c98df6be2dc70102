"""The checks: what the pod asks of hosts with traffic rules and of VMs, and what comes back."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping

from settings import HostTraffic, Settings
from verify import judge, plan
from verify.callers import CURL, OnVms, from_pod, from_vms
from verify.judge import LEFT_OUT, Row
from verify.pod import Tool, ToolError

LONGEST_SECONDS = 30.0
"""Timeouts longer than that are not waited for."""
TRIES = 3
ROUNDS = 10
"""How often ten requests may be spent on ending connections; a subset with a small weight is seldom asked."""
ARRIVAL_SECONDS = 30.0
"""How long the pod's sidecar may take to know a host."""


def traffic(tool: Tool, stack: Settings, requests: int) -> Iterator[Row]:
    """Weights, timeouts and retries of each host with rules."""
    if not stack.traffic:
        yield Row("traffic rules", "-", LEFT_OUT, "the stack has none")
    for host, rules in stack.traffic.items():
        target = plan.routed(stack, host, _service_port(tool, host))
        if target is None:
            yield Row("traffic rules", host, LEFT_OUT, "nothing says at which port it speaks HTTP")
            continue
        if not _arrived(tool, target):
            yield Row("traffic rules", host, judge.FAILED, "no answer from the pod, see pod to VM")
            continue
        yield _weights(tool, target, rules, requests)
        endpoints = tool.endpoints(host)
        yield _timeout(tool, target, rules, endpoints)
        yield _retries(tool, target, rules, endpoints)


def _service_port(tool: Tool, host: str) -> int | None:
    """The port of a Service that the stack does not make."""
    name, _, rest = host.partition(".")
    if not rest.endswith(".svc.cluster.local"):
        return None
    return tool.service_port(rest.partition(".")[0], name)


def _arrived(tool: Tool, target: plan.Target) -> bool:
    end = time.monotonic() + ARRIVAL_SECONDS
    while time.monotonic() < end:
        if _code(tool, target) not in ("000", "404", "503"):
            return True
        time.sleep(1)
    return False


def _code(tool: Tool, target: plan.Target) -> str:
    script = f"{CURL} 10 -w '%{{http_code}}' {shlex.quote(target.url)} || true"
    return tool.run(script).strip()


def _weights(tool: Tool, target: plan.Target, rules: HostTraffic, requests: int) -> Row:
    weights = plan.weights(rules)
    if len(weights) < 2:
        reason = "a migration moves them" if rules.migration else "its routes share nothing between subsets of it"
        return Row("weights", target.host, LEFT_OUT, reason)

    def sent() -> dict[str, int]:
        total = tool.counts(target.host, "upstream_rq_total")
        again = tool.counts(target.host, "upstream_rq_retry")
        return {subset: count - again.get(subset, 0) for subset, count in total.items()}

    before = sent()
    url = shlex.quote(target.url)
    tool.run(f"for i in $(seq {requests}); do {CURL} 10 {url}; done; true", seconds=60 + requests)
    counts = {subset: count - before.get(subset, 0) for subset, count in sent().items()}
    return judge.distribution(target.host, weights, {subset: counts[subset] for subset in counts if subset in weights})


def _timeout(tool: Tool, target: plan.Target, rules: HostTraffic, endpoints: list[tuple[str, int]]) -> Row:
    reason = "no timeout" if rules.timeout is None else "a fault stands in its place" if rules.fault else ""
    limit = plan.seconds(rules.timeout) if rules.timeout else 0
    first = plan.first_end(rules) if rules.timeout else 0
    reason = reason or (f"{limit:g} s is too long to wait for" if limit > LONGEST_SECONDS else "")
    reason = reason or ("a connection is given up sooner" if plan.connect_seconds(rules) < first else "")
    reason = reason or ("" if endpoints else "the sidecar has no endpoints that are IPv4 addresses")
    if reason:
        return Row("timeout", target.host, LEFT_OUT, reason)
    script = f"{CURL} {limit + 10} -w '%{{http_code}} %{{time_total}}\\n' {shlex.quote(target.url)} || true"
    with tool.cut_off(endpoints, refused=False):
        said = tool.run("\n".join([script] * TRIES), seconds=60 + TRIES * (limit + 10))
    answers = [(int(code), float(took)) for code, took in (line.split() for line in said.splitlines())]
    return judge.timeout(target.host, first, limit, answers)


def _retries(tool: Tool, target: plan.Target, rules: HostTraffic, endpoints: list[tuple[str, int]]) -> Row:
    retries = rules.retries
    conditions = set((retries.retry_on or "connect-failure").split(",")) if retries else set()
    reason = "" if retries else "no retries of its own"
    reason = reason or ("" if conditions & plan.RETRIED_WHEN_REFUSED else "none for a connection that is refused")
    reason = reason or ("" if endpoints else "the sidecar has no endpoints that are IPv4 addresses")
    if reason or retries is None:
        return Row("retries", target.host, LEFT_OUT, reason)
    script = f"{CURL} 20 {shlex.quote(target.url)} || true"
    with tool.cut_off(endpoints, refused=True):
        # A request on a connection that was there before is reset, and that is another condition.
        for _ in range(ROUNDS):
            if not tool.connected(target.host):
                break
            tool.run("\n".join([script] * 10), seconds=60 + 10 * 20)
        else:
            return Row("retries", target.host, LEFT_OUT, "the sidecar's connections from before did not end")
        before = sum(tool.counts(target.host, "upstream_rq_retry").values())
        tool.run("\n".join([script] * TRIES), seconds=60 + TRIES * 20)
        tried = sum(tool.counts(target.host, "upstream_rq_retry").values()) - before
    return judge.retries(target.host, retries.attempts, TRIES, tried)


def pod_to_vms(tool: Tool, stack: Settings) -> Iterator[Row]:
    """Every workload's host by name, with TLS on the wire; and every VM past its sidecar's mutual TLS."""
    found = plan.targets(stack)
    for name in stack.workloads.keys() - found.keys():
        yield Row("pod to VM", name, LEFT_OUT, "no service with an HTTP port, or no VM")
    for name, target in found.items():
        _arrived(tool, target)
        before = sum(tool.counts(target.host, "ssl.handshake").values())
        yield judge.answered("pod to VM", name, _code(tool, target), guarded=target.guarded)
        if stack.workloads[name].meshed_vms:
            yield judge.handshakes(target.host, before or sum(tool.counts(target.host, "ssl.handshake").values()))
    for vm, (address, port, strict) in plan.direct(stack).items():
        if not strict:
            yield judge.plain_text(vm, strict, 0, "")
            continue
        said = tool.run(f"{CURL} 10 -w '%{{http_code}}' http://{address}:{port}/; echo \" $?\"").split()
        yield judge.plain_text(vm, strict, int(said[1]), said[0])


def rows(tool: Tool, stack: Settings, on_vms: OnVms, requests: int) -> Iterator[Row]:
    """All checks; one that cannot be made is told as such, and the others go on."""
    parts: Mapping[str, Iterator[Row]] = {
        "pod to VM": pod_to_vms(tool, stack),
        "traffic rules": traffic(tool, stack, requests),
        "VM to pod, VM to VM": from_vms(stack, on_vms),
        "DNS capture": from_pod(tool, stack),
    }
    for name, part in parts.items():
        try:
            yield from part
        except ToolError as error:
            yield Row(name, "-", judge.FAILED, str(error))
