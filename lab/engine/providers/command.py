"""The `command` package: shell commands on this machine and, over ssh, on others, run as a resource comes and goes.

Behaves as Pulumi's command provider does: any changed input runs `update` (or `create` where there is none), changed
`triggers` replace, and a failure shows the command with everything it printed.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

from lab.engine.providers import property_diff, ssh
from lab.engine.providers.base import CheckError, Child, Context, Diff, ProviderError, Values
from lab.engine.providers.local_shell import run_local
from lab.engine.providers.shell_result import Job
from lab.engine.values import UNKNOWN, Secret

LOCAL: Final = "command:local:Command"
REMOTE: Final = "command:remote:Command"
_COMMON: Final = {
    "create",
    "update",
    "delete",
    "stdin",
    "environment",
    "triggers",
    "logging",
    "addPreviousOutputInEnv",
}
_INPUTS: Final = {LOCAL: _COMMON | {"dir", "interpreter"}, REMOTE: _COMMON | {"connection"}}
_RUN_INPUTS: Final = (_INPUTS[LOCAL] | {"command"}) - {"create", "update", "delete", "triggers"}
_LOGGING: Final = {"stdout": (True, False), "stderr": (False, True), "stdoutAndStderr": (True, True)}


class CommandProvider:
    """Local and remote commands. It needs no configuration: a provider resource of this package has no inputs."""

    def __init__(self, config: Values) -> None:
        unknown = set(config) - {"version", "pluginDownloadURL"}
        if unknown:
            raise CheckError([(key, "is not an option of the command provider") for key in sorted(unknown)])

    def supports(self, type_: str) -> bool:
        """Tell whether this is one of the two commands."""
        return type_ in _INPUTS

    def check(self, type_: str, old: Values | None, new: Values, *, name: str) -> dict[str, Any]:
        """Fill in the connection's defaults and refuse what cannot be done."""
        inputs = {key: value for key, value in new.items() if value is not None}
        problems = [(key, "is not supported by the embedded engine") for key in sorted(set(inputs) - _INPUTS[type_])]
        if inputs.get("logging", "none") not in {*_LOGGING, "none", UNKNOWN}:
            problems.append(("logging", f"must be one of {', '.join(_LOGGING)} or none (got {inputs['logging']!r})"))
        if type_ == REMOTE:
            connection = inputs.get("connection")
            if isinstance(connection, Mapping):
                inputs["connection"], found = ssh.check_connection(connection)
                problems += [(f"connection.{key}", reason) for key, reason in found]
            elif connection is not UNKNOWN:
                problems.append(("connection", "is required"))
        if problems:
            raise CheckError(problems)
        return inputs

    def diff(self, type_: str, id_: str, old_inputs: Values, old_outputs: Values, new_inputs: Values) -> Diff:
        """Compare the inputs; `triggers` replace, everything else updates."""
        return property_diff.diff(old_inputs, new_inputs, [("triggers",)])

    def create(self, type_: str, inputs: Values, context: Context) -> tuple[str, dict[str, Any]]:
        """Run `create`."""
        if context.preview:
            return "", _outputs(inputs, UNKNOWN, UNKNOWN)
        stdout, stderr = _run(type_, inputs, inputs.get("create"), {}, context)
        return f"{context.urn.rpartition('::')[2]}{secrets.token_hex(4)}", _outputs(inputs, stdout, stderr)

    def update(
        self, type_: str, id_: str, old_inputs: Values, old_outputs: Values, new_inputs: Values, context: Context
    ) -> dict[str, Any]:
        """Run `update`, or `create` where there is no `update`."""
        if context.preview:
            return _outputs(new_inputs, UNKNOWN, UNKNOWN)
        command = new_inputs.get("update")
        stdout, stderr = _run(
            type_, new_inputs, new_inputs.get("create") if command is None else command, old_outputs, context
        )
        return _outputs(new_inputs, stdout, stderr)

    def delete(self, type_: str, id_: str, inputs: Values, outputs: Values, context: Context) -> None:
        """Run `delete`, over the connection that was stored with the resource."""
        _run(type_, inputs, inputs.get("delete"), outputs, context)

    def read(self, type_: str, id_: str, inputs: Values) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Fail: what a command did cannot be read back."""
        raise ProviderError(f"{type_} cannot be read: a command leaves nothing to look up")

    def invoke(self, token: str, args: Values) -> dict[str, Any]:
        """Run a command now, in previews too."""
        if token != "command:local:run":
            raise ProviderError(f"the embedded engine has no function {token}")
        inputs = {key: value for key, value in args.items() if value is not None}
        unsupported = sorted(set(inputs) - _RUN_INPUTS)
        if unsupported:
            raise CheckError([(key, "is not supported by the embedded engine") for key in unsupported])
        result = _run(LOCAL, inputs, inputs["command"], {}, Context(urn=""))
        return {**inputs, "stdout": result[0], "stderr": result[1]}

    def construct(self, type_: str, name: str, inputs: Values, context: Context) -> list[Child] | None:
        """Return None: the package has no components."""
        return None


def _outputs(inputs: Values, stdout: Any, stderr: Any) -> dict[str, Any]:
    outputs = {**inputs, "stdout": stdout, "stderr": stderr}
    return outputs | {"connection": Secret(inputs["connection"])} if "connection" in inputs else outputs


def _run(type_: str, inputs: Values, command: str | None, old: Values, context: Context) -> tuple[str, str]:
    previous = {f"PULUMI_COMMAND_{key.upper()}": str(old.get(key) or "") for key in ("stdout", "stderr")}
    if command is None:
        return previous["PULUMI_COMMAND_STDOUT"], previous["PULUMI_COMMAND_STDERR"]
    if inputs.get("addPreviousOutputInEnv") is False:
        previous = {}
    job = Job(
        command=command,
        stdin=inputs.get("stdin") or "",
        environment={**inputs.get("environment", {}), **{key: text for key, text in previous.items() if text}},
        log=_LOGGING.get(inputs.get("logging", "stdoutAndStderr"), (False, False)),
        timeout=context.timeout,
        report=context.report,
        cancelled=context.cancelled,
    )
    if type_ == REMOTE:
        return ssh.run_remote(inputs["connection"], job)
    return run_local(job, directory=inputs.get("dir"), interpreter=inputs.get("interpreter") or ("/bin/sh", "-c"))
