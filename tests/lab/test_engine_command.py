"""The engine's command provider on a VM of the lab."""

from __future__ import annotations

import pytest
from stack import PROJECT

from lab.engine.providers.base import Context
from lab.engine.providers.command import REMOTE, CommandProvider
from lab.runtime import Lab

pytestmark = pytest.mark.lab


def test_remote_command_on_a_vm(lab: Lab) -> None:
    line = next(
        line for line in (PROJECT / ".lab/ssh/known_hosts").read_text().splitlines() if line.startswith("10.77.0.21 ")
    )
    connection = {
        "host": "10.77.0.21",
        "privateKey": (PROJECT / ".lab/ssh/id_ed25519").read_text(),
        "hostKey": line.split(" ", 1)[1],
        "dialErrorLimit": 2,
        "perDialTimeout": 5,
    }
    provider = CommandProvider({})
    inputs = {
        "connection": connection,
        "create": "hostname; cat; head -c 100000 /dev/zero | tr '\\0' x",
        "stdin": "in-",
    }
    checked = provider.check(REMOTE, None, inputs, name="c")
    assert (
        provider.create(REMOTE, checked, Context(urn="urn:pulumi:dev::p::type::thing"))[1]["stdout"]
        == "billing-1\nin-" + "x" * 100_000
    )
