"""What an answer is worth: each check's row in the table; pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from verify.bounds import bounds

OK, FAILED, LEFT_OUT = "ok", "FAILED", "left out"
REFUSED = {35: "it wanted TLS", 52: "closed without an answer", 56: "connection reset"}
"""Ends of curl by which a server refuses plain text."""
ALLOCATED = [ipaddress.ip_network("240.240.0.0/16"), ipaddress.ip_network("2001:2::/48")]
"""Where istiod takes the addresses of ServiceEntries' hosts from (pilot/pkg/serviceregistry: autoallocate)."""
LATE_SECONDS = 1.5
"""By how much a request may end after its timeout: what curl and a busy machine take."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    check: str
    subject: str
    verdict: str
    figures: str = ""


def row(check: str, subject: str, good: bool, figures: str) -> Row:
    """A row by whether it is good."""
    return Row(check, subject, OK if good else FAILED, figures)


def distribution(host: str, weights: Mapping[str, int], counts: Mapping[str, int]) -> Row:
    """Whether requests went by the weights."""
    total = sum(counts.values())
    said, good = [], total > 0
    for subset, weight in weights.items():
        least, most = bounds(total, weight, ways=len(weights))
        count = counts.get(subset, 0)
        good = good and least <= count <= most
        said.append(f"{subset or 'host'} {count} of {total} (weight {weight} allows {least} to {most})")
    return row("weights", host, good, ", ".join(said))


def timeout(host: str, first: float, limit: float, answers: list[tuple[int, float]]) -> Row:
    """Whether requests that get no answer end with 504, none before its first attempt may, nor after its timeout."""
    good = bool(answers) and all(code == 504 and first * 0.9 <= took <= limit + LATE_SECONDS for code, took in answers)
    took = ", ".join(f"HTTP {code} after {seconds:.1f} s" for code, seconds in answers) or "no answer"
    attempt = f", {first:g} s an attempt" if first < limit else ""
    return row("timeout", host, good, f"{took} ({limit:g} s{attempt})")


def retries(host: str, attempts: int, requests: int, tried: int) -> Row:
    """Whether refused requests were tried again as often as the rule says."""
    figures = f"{tried} retries of {requests} refused requests (attempts: {attempts})"
    return row("retries", host, tried == attempts * requests, figures)


def answered(check: str, subject: str, code: str, *, guarded: bool, more: str = "") -> Row:
    """Whether an application answered; a host that lets only some in may refuse this one."""
    if guarded and code == "403":
        return Row(check, subject, LEFT_OUT, "403: the stack's access rules do not let the caller in")
    good = code.isdigit() and 200 <= int(code) < 500 and code != "403"
    return row(check, subject, good, (f"HTTP {code}" if code not in ("", "000") else "no answer") + more)


def identity(caller: str, wanted: str, seen: str) -> Row:
    """Whether a server saw who called, which only mutual TLS tells it."""
    good = f"URI={wanted}" in seen
    return row("mTLS, VM to pod", caller, good, wanted if good else f"the pod saw {seen or 'no certificate'}")


def handshakes(host: str, count: int) -> Row:
    """Whether connections to a host began with TLS on the wire."""
    return row("mTLS, pod to VM", host, count > 0, f"{count} TLS handshakes on the wire")


def plain_text(vm: str, strict: bool, ended: int, code: str) -> Row:
    """Whether plain text is refused where mutual TLS is demanded."""
    if not strict:
        return Row("plain text refused", vm, LEFT_OUT, "mutualTls is not STRICT there")
    how = REFUSED.get(ended) or (f"HTTP {code}" if ended == 0 else f"curl ended with {ended}")
    return row("plain text refused", vm, ended in REFUSED, how)


def among_vms(subject: str, caller: str, codes: Sequence[str], by: Sequence[str], *, guarded: bool) -> Row:
    """Whether VMs answered a VM; where only itself did, nothing is known of others."""
    worst = next((code for code in codes if not code.startswith("2")), codes[-1] if codes else "")
    found = answered("VM to VM", subject, worst, guarded=guarded, more=f" from {', '.join(by)}" if by else "")
    if found.verdict == OK and list(by) == [caller]:
        return Row("VM to VM", subject, LEFT_OUT, f"nobody but {caller} itself was asked")
    return found


def resolved(subject: str, addresses: Sequence[str], given: Sequence[str]) -> Row:
    """Whether a host outside of the cluster resolves to an address of the mesh, by the sidecar's DNS."""
    good = bool(addresses) and all(_of_mesh(address, given) for address in addresses)
    wrong = "not resolved" if not addresses else f"{', '.join(addresses)}: not of the mesh"
    return row("DNS capture", subject, good, ", ".join(addresses) if good else wrong)


def _of_mesh(address: str, given: Sequence[str]) -> bool:
    ip = ipaddress.ip_address(address)
    return any(ip in network for network in [*ALLOCATED, *(ipaddress.ip_network(item) for item in given)])


def table(rows: list[Row]) -> str:
    """Rows as aligned text."""
    widths = [max((len(cell) for cell in cells), default=0) for cells in zip(*map(_cells, rows), strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(_cells(row), widths, strict=True)) for row in rows]
    count = {verdict: sum(row.verdict == verdict for row in rows) for verdict in (OK, FAILED, LEFT_OUT)}
    summary = ", ".join(f"{number} {verdict}" for verdict, number in count.items() if number)
    return "\n".join([*(line.rstrip() for line in lines), f"{len(rows)} checks: {summary}"])


def _cells(row: Row) -> tuple[str, str, str, str]:
    return row.verdict, row.check, row.subject, row.figures
