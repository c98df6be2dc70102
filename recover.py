"""Brings a stack up again after a run that was killed: `python -m recover --stack NAME [FLAGS OF pulumi up]`.

A killed run leaves three things that the next `pulumi up` stumbles over: a lock, a list of what it was creating, and
perhaps objects in the cluster that the state does not hold. This takes away the first two and takes over the third.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from components import take_over


class RecoveryError(Exception):
    """The Pulumi CLI has refused; the text is its own."""


def without_pending(exported: str) -> tuple[str, list[str]]:
    """Return a stack's exported state without the list of operations that were under way, and what that list named.

    Args:
        exported: What `pulumi stack export` prints.

    Returns:
        The state as JSON text, and an entry such as `creating billing-1-configure` for each operation.
    """
    state = json.loads(exported)
    pending = state["deployment"].pop("pending_operations", None) or []
    named = [f"{operation['type']} {operation['resource']['urn'].rsplit('::', 1)[1]}" for operation in pending]
    return json.dumps(state), named


def release(pulumi: Sequence[str], stack: str, environment: Mapping[str, str]) -> list[str]:
    """Take away a stack's lock and its list of operations that were under way.

    Args:
        pulumi: The CLI's command line, up to its command.
        stack: The stack's name.
        environment: Of the CLI.

    Returns:
        What the killed run was doing.

    Raises:
        RecoveryError: The CLI refuses.
    """

    def run(*arguments: str, stdin: str = "") -> str:
        argv = [*pulumi, *arguments, "--stack", stack, "--non-interactive"]
        done = subprocess.run(argv, env=dict(environment), input=stdin, capture_output=True, text=True)
        if done.returncode:
            raise RecoveryError(f"{' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout

    run("cancel", "--yes")
    state, pending = without_pending(run("stack", "export"))
    if pending:
        run("stack", "import", stdin=state)
    return pending


def main(argv: Sequence[str]) -> int:
    """Recover a stack, and run `pulumi up` on it.

    Returns:
        The exit code of `pulumi up`.
    """
    if len(argv) < 2 or argv[0] != "--stack":
        print("usage: python -m recover --stack NAME [FLAGS OF pulumi up]", file=sys.stderr)
        return 2
    stack, flags = argv[1], argv[2:]
    try:
        pending = release(["pulumi"], stack, os.environ)
    except FileNotFoundError:
        print("recover: pulumi is not on PATH: https://www.pulumi.com/docs/install/", file=sys.stderr)
        return 1
    except RecoveryError as error:
        print(f"recover: {error}", file=sys.stderr)
        return 1
    print(f"recover: the killed run was {', '.join(pending)}" if pending else "recover: no operation was under way")
    up = ["pulumi", "up", "--stack", stack, "--continue-on-error", *flags]
    taken_over = subprocess.run(up, env={**os.environ, **take_over.VARIABLES}).returncode
    # Once more, so that the state holds the provider's own options again, and the next plan is empty.
    return taken_over or subprocess.run(up).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
