"""kubectl commands that the program runs where Pulumi runs: for what the Kubernetes provider has no resource for.

Pure. Paths stay as the user wrote them, so that commands are the same in every clone.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

WAIT_SECONDS = 90
"""How long `up` waits for an object that a controller makes."""


@dataclass(frozen=True, kw_only=True)
class ClusterAccess:
    """How kubectl reaches the cluster: only names, no credentials."""

    kubeconfig: str | None = None
    """Path; without it the ambient one."""
    context: str | None = None
    """Context in it; without it the current one."""

    @property
    def kubeconfig_path(self) -> str | None:
        """The path as programs take it: `~` is the shell's."""
        return str(Path(self.kubeconfig).expanduser()) if self.kubeconfig else None


def kubectl(access: ClusterAccess, *arguments: str) -> str:
    """A kubectl command line for a shell."""
    options = ["--request-timeout=20s"]
    options += [f"--kubeconfig={access.kubeconfig_path}"] if access.kubeconfig else []
    options += [f"--context={access.context}"] if access.context else []
    return shlex.join(["kubectl", *options, *arguments])


def read_when_there(access: ClusterAccess, kind: str, name: str, namespace: str, jsonpath: str, *, wait: bool) -> str:
    """A script that prints one field of an object.

    With `wait` it tries until the field has a value and fails after `WAIT_SECONDS`. Without, as in a preview, it looks
    once and prints nothing where the object is not there yet; that the cluster gives no answer is an error in both.
    """
    where = (kind, name, f"--namespace={namespace}")
    get = kubectl(access, "get", *where, "--ignore-not-found", f"-o=jsonpath={jsonpath}")
    if not wait:
        return get
    return "\n".join(
        [
            f"end=$(($(date +%s) + {WAIT_SECONDS}))",
            "while :; do",
            f"  value=$({get}) || exit 1",
            '  [ -z "$value" ] || break',
            '  if [ "$(date +%s)" -ge "$end" ]; then',
            f'    echo "{kind} {namespace}/{name} has no {jsonpath} after {WAIT_SECONDS} s" >&2; exit 1',
            "  fi",
            "  sleep 0.5",
            "done",
            'printf %s "$value"',
        ]
    )


def create_token(
    access: ClusterAccess, *, service_account: str, namespace: str, minutes: int, secret: str, secret_uid: str
) -> str:
    """A command that prints a token for istiod's CA, bound to a Secret: deleting that Secret revokes it."""
    return kubectl(
        access,
        "create",
        "token",
        service_account,
        f"--namespace={namespace}",
        "--audience=istio-ca",
        f"--duration={minutes}m",
        "--bound-object-kind=Secret",
        f"--bound-object-name={secret}",
        f"--bound-object-uid={secret_uid}",
    )


def delete_entry(access: ClusterAccess, *, name: str, namespace: str) -> str:
    """A command that deletes a WorkloadEntry, and is content where there is none."""
    return kubectl(
        access,
        "delete",
        "workloadentries.networking.istio.io",
        name,
        f"--namespace={namespace}",
        "--ignore-not-found",
        "--wait=false",
    )
