"""The least that a login on a VM must be allowed to do as root: `python -m hosts.sudoers LOGIN` prints it as a file.

It fits what `configure` in `plan.py` and `enter` in `common.sh` ask sudo for; a lab test joins a VM with nothing else.
"""

import re
import sys

from hosts.plan import HELPER, START_AS_ROOT

_TEXT = """\
# /etc/sudoers.d/istio-vm-mesh (mode 0440): what {login} needs to bring this machine into a mesh, and out of it again.
# The first entry verifies a program by a SHA-256 that comes over ssh, and runs it as root; the second one runs the
# program that is installed. So whoever holds {login}'s ssh key can make root run anything. This spares a root login and
# a password, allows no other command, and leaves each use in sudo's log; it does not protect the machine from {login}.
Defaults:{login} !requiretty
{login} ALL=(root) NOPASSWD: /bin/sh -c {start} istio-vm-mesh *, /bin/sh {helper} as-root*
"""


def sudoers(login: str) -> str:
    """Return the file for a login.

    Raises:
        ValueError: It is no login name that is safe to write there.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", login):
        raise ValueError(f"not a login name (got {login!r}): letters, digits, '-' and '_'")
    return _TEXT.format(login=login, start=re.sub("[,:=]", r"\\\g<0>", START_AS_ROOT), helper=HELPER)


def main(arguments: list[str]) -> None:
    """Print the file for the login that is named; for `deploy` without one."""
    try:
        sys.stdout.write(sudoers(*arguments[:1] or ["deploy"]))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
