"""The registration as a table for people, and as lines for a log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

HEADER = ("VM", "WORKLOAD", "ADDRESS", "STATE", "SINCE", "CERTIFICATE (EXPIRES)", "REASON / NEXT STEP")


def table(report: Mapping[str, Any], now: datetime) -> str:
    """One row a VM, columns as wide as their widest cell; a next step stands under its reason."""
    rows: list[tuple[str, ...]] = [HEADER]
    for name, vm in report["vms"].items():
        reason, hint = vm["reason"], vm["hint"]
        first = (reason or hint or "-") if vm["state"] != "healthy" else "-"
        rows.append(
            (
                name,
                f"{vm['namespace']}/{vm['workload']}",
                vm["address"],
                vm["state"],
                _short(vm["since"]),
                _expiry(vm.get("certificate") or {}, now),
                first,
            )
        )
        if reason and hint:
            rows.append(("", "", "", "", "", "", f"-> {hint}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def summary(report: Mapping[str, Any]) -> str:
    """`2 VMs: 1 healthy, 1 unreachable`."""
    total = len(report["vms"])
    counts = ", ".join(f"{count} {state}" for state, count in report["summary"].items())
    return f"{total} VM{'' if total == 1 else 's'}{': ' if counts else ''}{counts}"


def _short(moment: str | None) -> str:
    return moment[:19].replace("T", " ") if moment else "-"


def _expiry(certificate: Mapping[str, Any], now: datetime) -> str:
    """When the certificate that `confirm` saw expires; the sidecar renews it long before."""
    text = certificate.get("notAfter")
    if not text:
        return "-"
    try:
        expires = datetime.fromisoformat(text)
    except ValueError:
        return str(text)
    return "renewed since" if expires.tzinfo and expires < now else _short(text)
