"""What has changed on a VM since this program left it: the VM's own answer in, the differences out, as data.

The VM keeps the facts as they were when `configure` and `confirm` had ended, and answers with those and with today's.
What differs becomes a record in the text of the next `configure`: the plan shows it, `up` repairs the VM, and the
record stays there. Read back, it makes the same text again, so that a second `up` changes nothing.
"""

import difflib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from hosts.plan import HELPER, STATE

OBSERVE = f"""\
{{ cat /proc/sys/kernel/random/boot_id; stat -c %Z {HELPER} {STATE} /usr/local/lib /var/lib; }} 2>/dev/null | cksum
if [ -e {HELPER} ]; then sh {HELPER} observe; elif [ -e {STATE} ]; then echo gone; else echo blank; fi
"""
"""The command for the VM. It starts with a number that changes with every repair."""

_MOST_LINES = 40
"""Lines of a record; a file that has nothing left in common with ours needs no more to say so."""
_LONGEST_LINE = 200


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The certificate that lies on a VM."""

    serial: str
    not_after: str
    """RFC 3339."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a look at a VM has found."""

    unknown: str = ""
    """Why it could not be looked at; empty where it could. The rest is empty then."""
    record: tuple[str, ...] = ()
    """What stands in the text of `configure`: the differences there are now, else those repaired last."""
    drift: tuple[str, ...] = ()
    """The differences there are now: `<file>:<line> - <as left>` and `<file>:<line> + <found>`."""
    certificate: Certificate | None = None
    bare: bool = False
    """Whether the VM says that it has no certificate that is valid: it needs a token to get one."""

    @property
    def summary(self) -> str:
        """The differences in one line; empty where there are none."""
        places = list(dict.fromkeys(line.split(" - ")[0].split(" + ")[0] for line in self.drift))
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        return f"not as it was left: {', '.join(places[:3])}{more}" if places else ""

    @property
    def mark(self) -> str:
        """What makes a command another one after a repair; empty where nothing has been repaired."""
        return hashlib.sha256("\n".join(self.record).encode()).hexdigest()[:8] if self.record else ""


def found(status: int | None, stdout: str, stderr: str, *, now: datetime) -> Found:
    """What a VM's answer to `OBSERVE` says.

    Args:
        status: The command's exit status; None where it was ended by a signal.
        stdout: What it printed.
        stderr: The same, on standard error.
        now: The time, by which a certificate is valid or not.
    """
    stamp, _, answer = stdout.partition("\n")
    lines = answer.removesuffix("\n").split("\n")
    number = stamp.split(" ")[0]
    if lines == ["blank"]:
        return Found(record=(f"nothing of istio-vm-mesh was here ({number})",), bare=True)
    if lines == ["gone"]:
        return _drifted([f"{HELPER} - there", f"{HELPER} + missing"], number)
    if status != 0:
        said = (stderr.strip().splitlines() or [f"exit status {status}"])[-1]
        refusal = _refusal(said)
        return Found(unknown=refusal) if refusal else _drifted([f"{HELPER} + {said}"], number)
    if lines[-1:] != ["end"]:  # configured by a version that could not be looked at
        return Found()
    told: dict[str, list[str]] = {}
    for line in lines:
        kind, _, text = line.partition(" ")
        told.setdefault(kind, []).append(text)
    certificate = _certificate(told.get("certificate", []))
    drift = list(_differences(told.get("was", []), told.get("is", [])))
    left = told.get("left", [])
    expired = certificate is not None and datetime.fromisoformat(certificate.not_after) < now
    bare = "bare" in told or expired
    if left and certificate and expired:
        drift.append(f"certificate + expired {certificate.not_after}")
    if drift:
        return _drifted(drift, left[0] if left else number, certificate, bare)
    return Found(record=_shown(told.get("record", [])), certificate=certificate, bare=bare)


def _drifted(drift: Sequence[str], left: str, certificate: Certificate | None = None, bare: bool = False) -> Found:
    """A changed VM. Each line of the record tells when it was left as it was to be, so no two repairs look the same."""
    return Found(
        record=_shown([f"since {left}: {line}" for line in drift]),
        drift=tuple(map(_plain, drift)),
        certificate=certificate,
        bare=bare,
    )


def _shown(record: Sequence[str]) -> tuple[str, ...]:
    """The lines of a record, fit for a plan and a command; doing it twice is doing it once."""
    more = [f"and {len(record) - _MOST_LINES} lines more"] if len(record) > _MOST_LINES + 1 else record[_MOST_LINES:]
    return tuple(map(_plain, [*record[:_MOST_LINES], *more]))


def _differences(was: Sequence[str], found: Sequence[str]) -> Iterator[str]:
    """Yield the lines that differ, each with its item, and in a file with its number."""
    before, after = _items(was), _items(found)
    for item in dict.fromkeys([*before, *after]):
        old, new = before.get(item, []), after.get(item, [])
        if item.endswith(" mode") and not new:
            continue  # the file itself is missing
        if old and not new and item.startswith("/") and " " not in item and f"{item} mode" not in after:
            yield from (f"{item} - there", f"{item} + missing")
            continue
        numbered = item.startswith("/") and len(old) + len(new) > 2
        for tag, i, i_end, j, j_end in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
            if tag != "equal":
                yield from (f"{item}{f':{n + 1}' if numbered else ''} - {old[n]}" for n in range(i, i_end))
                yield from (f"{item}{f':{n + 1}' if numbered else ''} + {new[n]}" for n in range(j, j_end))


def _items(facts: Sequence[str]) -> dict[str, list[str]]:
    """Facts by what they are about, in order."""
    items: dict[str, list[str]] = {}
    for fact in facts:
        item, _, text = fact.partition(": ")
        items.setdefault(item, []).append(text)
    return items


def _certificate(pem: Sequence[str]) -> Certificate | None:
    """What the lines of a certificate say; its serial number is written as openssl does."""
    try:
        found = x509.load_pem_x509_certificate("\n".join([*pem, ""]).encode())
    except ValueError:
        return None
    digits = f"{found.serial_number:X}"
    return Certificate(
        serial=digits.zfill(len(digits) + len(digits) % 2), not_after=f"{found.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}"
    )


def _refusal(said: str) -> str:
    """What the VM's program says in its own words (one line of JSON) about why it cannot answer; else nothing."""
    try:
        error = json.loads(said)
        return f"{error['code']}: {error['fact']}"
    except (ValueError, TypeError, KeyError):
        return ""


def _plain(text: str) -> str:
    """A line without what is not printable, and no longer than a line."""
    return "".join(c if c.isprintable() else "?" for c in text)[:_LONGEST_LINE].rstrip()
