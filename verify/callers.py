"""What VMs ask, and what the pod and VMs ask for by names outside of the cluster's domain; and what comes back."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping

from hosts.ssh import Answer
from settings import Settings
from verify import judge, plan
from verify.judge import LEFT_OUT, Row
from verify.pod import NAME, SEEN, Tool

OnVms = Callable[[Mapping[str, str], float], Mapping[str, Answer]]
"""Runs a script on each VM, by name, for so many seconds at most."""
LIMIT_SECONDS = 5
"""For each request."""
LOGIN_SECONDS = 30.0
ASKED = 10
"""How often a VM asks a workload, so that others than itself answer."""
POD = f"http://{NAME}.{NAME}.svc.cluster.local/"
CURL = "curl -s -o /dev/null --max-time"
_CODE = f"{CURL} {LIMIT_SECONDS} -w '%{{http_code}} '"
_SENT = re.compile(r"^outbound\|\d+\|[^|]*\|(?P<host>[^|;:]+);?::(?P<address>[\d.]+):\d+::rq_total::(?P<count>\d+)$")
_FUNCTIONS = f"""
command -v curl >/dev/null || {{ echo no-curl; exit 0; }}
sent() {{ echo sent "$1" $(curl -s --max-time {LIMIT_SECONDS} http://127.0.0.1:15000/clusters | grep -F "|$2" | grep ::rq_total::); }}
"""  # noqa: E501  a line of shell


def from_vms(stack: Settings, on_vms: OnVms) -> Iterator[Row]:
    """A VM of each workload asks the pod, every workload's host, and every host that only the sidecar's DNS knows."""
    callers, targets, outside = plan.callers(stack), plan.targets(stack), plan.outside(stack)
    if not callers:
        yield Row("VM to pod, VM to VM", "-", LEFT_OUT, "no VM has a sidecar")
        return
    lines = [f"echo pod $(curl -s -D - -o /dev/null --max-time {LIMIT_SECONDS} {POD} | tr -d '\\r')"]
    for name, target in targets.items():
        lines += [f"sent {name} {target.host}", _asks(name, target), f"sent {name} {target.host}"]
    scripts = {
        caller.vm: "\n".join([_FUNCTIONS, *lines, *_lookups(outside.values(), caller.namespace), "true"])
        for caller in callers
    }
    seconds = LOGIN_SECONDS + LIMIT_SECONDS * (1 + 3 * len(targets) + 2 * len(outside))
    answers = on_vms(scripts, seconds)
    for caller in callers:
        ran = answers[caller.vm]
        if ran.unknown or ran.output.strip() == "no-curl":
            yield Row("VM to pod, VM to VM", caller.vm, LEFT_OUT, ran.unknown or "there is no curl on the VM")
            continue
        lines = ran.output.splitlines()
        yield from _of_pod(caller, lines)
        for name, target in targets.items():
            yield _of_workload(caller, name, target, lines, stack)
        yield from _found(caller.vm, caller.namespace, outside, lines)


def from_pod(tool: Tool, stack: Settings) -> Iterator[Row]:
    """The pod asks every host that only the sidecar's DNS knows."""
    outside = plan.outside(stack)
    if not outside:
        yield Row("DNS capture", "-", LEFT_OUT, "the stack has no host outside of the cluster's domain")
        return
    lines = _lookups(outside.values(), NAME)
    seconds = LOGIN_SECONDS + 2 * LIMIT_SECONDS * len(outside)
    yield from _found("pod", NAME, outside, tool.run("\n".join([*lines, "true"]), seconds).splitlines())


def _asks(name: str, target: plan.Target) -> str:
    """Ask a workload some times, until once there is no answer."""
    once = f"code=$({_CODE} {shlex.quote(target.url)}); printf '%s' \"$code\"; [ \"$code\" != '000 ' ] || break"
    return f"echo vm {name} $(for i in $(seq {ASKED}); do {once}; done)"


def _lookups(outside: Iterable[plan.Outside], namespace: str) -> list[str]:
    """Lines of a script that resolve and ask the hosts that a namespace knows."""
    lines = []
    for each in outside:
        if each.seen_in(namespace):
            lines.append(f"echo dns {each.host} $(getent ahosts {each.host} | cut -d' ' -f1 | sort -u)")
            if each.target:
                lines.append(f"echo external {each.host} $({_CODE} {shlex.quote(each.target.url)})")
    return lines


def _said(lines: Iterable[str], *words: str) -> list[list[str]]:
    """What follows these words, of every line that begins with them."""
    found = [line.split() for line in lines]
    return [line[len(words) :] for line in found if line[: len(words)] == [*words]]


def _of_pod(caller: plan.Caller, lines: list[str]) -> Iterator[Row]:
    said = " ".join(" ".join(words) for words in _said(lines, "pod"))
    status, seen = re.search(r"HTTP/\S+ (\d+)", said), re.search(rf"{SEEN}: (\S+)", said)
    yield judge.answered("VM to pod", caller.vm, status[1] if status else "", guarded=False)
    if status:
        yield judge.identity(caller.vm, caller.identity, seen[1] if seen else "")


def _of_workload(caller: plan.Caller, name: str, target: plan.Target, lines: list[str], stack: Settings) -> Row:
    """What a workload answered, and who did: the VM's sidecar counts its requests by address."""
    known = {vm.address: name for workload in stack.workloads.values() for name, vm in workload.vms.items()}
    before, after = ([*(_counts(words, target.host) for words in _said(lines, "sent", name)), {}, {}])[:2]
    by = sorted(known.get(address, address) for address, count in after.items() if count > before.get(address, 0))
    codes = [code for words in _said(lines, "vm", name) for code in words]
    return judge.among_vms(f"{caller.vm} to {name}", caller.vm, codes, by, guarded=target.guarded)


def _counts(words: Iterable[str], host: str) -> dict[str, int]:
    """Requests by address that a sidecar has sent for a host."""
    found: dict[str, int] = {}
    for match in filter(None, map(_SENT.match, words)):
        if match["host"] == host:
            found[match["address"]] = found.get(match["address"], 0) + int(match["count"])
    return found


def _found(caller: str, namespace: str, outside: Mapping[str, plan.Outside], lines: list[str]) -> Iterator[Row]:
    """What hosts outside of the cluster's domain resolve to for a caller, and what answers there."""
    for host, each in outside.items():
        subject = f"{caller} to {host}"
        if not each.seen_in(namespace):
            yield Row("DNS capture", subject, LEFT_OUT, f"exportTo hides it from the namespace {namespace}")
            continue
        yield judge.resolved(subject, [word for words in _said(lines, "dns", host) for word in words], each.given)
        if each.target:
            code = next((words[0] for words in _said(lines, "external", host) if words), "")
            yield judge.answered("host by DNS capture", subject, code, guarded=each.target.guarded)
