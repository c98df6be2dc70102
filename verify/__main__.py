"""`python -m verify`: checks the mesh of a stack that is up, and prints a table. Exit code 0 only if nothing failed.

It makes one namespace with one pod, and removes it, also when it is interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from cluster.client import Client
from hosts.ssh import Answer, ask
from observation.targets import targets
from settings import Settings, SettingsError, from_stack_file
from verify import plan
from verify.judge import FAILED, table
from verify.pod import ToolError, manifests, tool
from verify.steps import rows

LEAST_REQUESTS, REQUESTS = 100, 200


def main(argv: list[str] | None = None) -> int:
    """Check; 0: all well, 1: something failed or could not be asked, 2: the stack file is refused."""
    parser = argparse.ArgumentParser(prog="python -m verify", description="Check the mesh of a stack that is up.")
    parser.add_argument(
        "--stack-file", type=Path, default=Path("Pulumi.dev.yaml"), help="the stack's configuration (Pulumi.dev.yaml)"
    )
    parser.add_argument("--requests", type=int, default=REQUESTS, help=f"to hosts with weights ({REQUESTS})")
    parser.add_argument("--image", help="of the pod: curl, iptables and Envoy (the mesh's proxy)")
    options = parser.parse_args(argv)
    if options.requests < LEAST_REQUESTS:
        parser.error(f"--requests: {LEAST_REQUESTS} or more, or weights are not to be told from chance")
    try:
        stack = from_stack_file(options.stack_file, Path("Pulumi.yaml"))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell in the background leaves SIGINT ignored
        signal.signal(number, _interrupt)
    istio = stack.istio
    image = options.image or f"{istio.hub}/proxyv2:{istio.tag or istio.version}"
    excluded = [address for address, _, _ in plan.direct(stack).values()]
    client = Client.connect(stack.cluster.kubeconfig, stack.cluster.context)
    try:
        with tool(client, manifests(image, istio.revision, excluded)) as pod:
            found = list(rows(pod, stack, lambda scripts, seconds: _on_vms(stack, scripts, seconds), options.requests))
    except ToolError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the pod is removed\n")
        return 130
    sys.stdout.write(f"{table(found)}\n")
    return 1 if any(row.verdict == FAILED for row in found) else 0


def _on_vms(stack: Settings, scripts: Mapping[str, str], seconds: float) -> Mapping[str, Answer]:
    return ask(targets(stack, scripts), scripts, seconds)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
