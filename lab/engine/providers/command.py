"""The `command` package: shell commands on this machine and, over ssh, on others, run as a resource comes and goes.

Behaves as Pulumi's command provider does: any changed input runs `update` (or `create` where there is none), changed
`triggers` replace, and a failure shows the command with everything it printed.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from lab.engine.diffs import diff_inputs
from lab.engine.providers import shell, ssh
from lab.engine.providers.base import CheckError, Context, Diff, Provider, Values
from lab.engine.values import UNKNOWN, FileAsset, Secret

LOCAL: Final = "command:local:Command"
REMOTE: Final = "command:remote:Command"
COPY: Final = "command:remote:CopyToRemote"
_RUN_INPUTS: Final = {"command", "stdin", "environment", "logging", "addPreviousOutputInEnv"}
_LOCAL_INPUTS: Final = (_RUN_INPUTS - {"command"}) | {"create", "update", "delete", "triggers"}
_INPUTS: Final = {
    LOCAL: _LOCAL_INPUTS,
    REMOTE: _LOCAL_INPUTS | {"connection"},
    COPY: {"connection", "source", "remotePath", "triggers"},
}
_LOGGING: Final = {"stdout": (True, False), "stderr": (False, True), "stdoutAndStderr": (True, True)}


class CommandProvider(Provider):
    """Commands here and elsewhere, and copies of files. It takes no configuration."""

    def __init__(self, config: Values) -> None:
        unknown = set(config) - {"version", "pluginDownloadURL"}
        if unknown:
            raise CheckError([(key, "is not an option of the command provider") for key in sorted(unknown)])

    def supports(self, type_: str) -> bool:
        """Tell whether this is a command or a copy."""
        return type_ in _INPUTS

    def check(self, type_: str, old: Values | None, new: Values, *, name: str) -> dict[str, Any]:
        """Fill in the connection's defaults and refuse what cannot be done."""
        inputs = {key: value for key, value in new.items() if value is not None}
        problems = [(key, "is not supported by the embedded engine") for key in sorted(set(inputs) - _INPUTS[type_])]
        if inputs.get("logging", "none") not in {*_LOGGING, "none", UNKNOWN}:
            problems.append(("logging", f"must be one of {', '.join(_LOGGING)} or none (got {inputs['logging']!r})"))
        if type_ == COPY:
            wrong = not isinstance(inputs.get("source"), FileAsset) and inputs.get("source") is not UNKNOWN
            problems += [("source", "must be a file")] if wrong else []
            problems += [] if inputs.get("remotePath") else [("remotePath", "is required")]
        if type_ != LOCAL:
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
        return diff_inputs(old_inputs, new_inputs, [("triggers",)])

    def create(self, type_: str, inputs: Values, context: Context) -> tuple[str, dict[str, Any]]:
        """Run `create`."""
        identity = "" if context.preview else f"{context.urn.rpartition('::')[2]}{secrets.token_hex(4)}"
        return identity, _outputs(type_, inputs, inputs.get("create"), {}, context)

    def update(
        self, type_: str, id_: str, old_inputs: Values, old_outputs: Values, new_inputs: Values, context: Context
    ) -> dict[str, Any]:
        """Run `update`, or `create` where there is no `update`."""
        command = new_inputs.get("update")
        return _outputs(
            type_, new_inputs, new_inputs.get("create") if command is None else command, old_outputs, context
        )

    def delete(self, type_: str, id_: str, inputs: Values, outputs: Values, context: Context) -> None:
        """Run `delete`, over the connection that was stored with the resource; a copy stays."""
        _run(type_, inputs, inputs.get("delete"), outputs, context)

    def invoke(self, token: str, args: Values) -> dict[str, Any]:
        """Run a command now, in previews too."""
        if token != "command:local:run":
            return super().invoke(token, args)
        inputs = {key: value for key, value in args.items() if value is not None}
        unsupported = sorted(set(inputs) - _RUN_INPUTS)
        if unsupported:
            raise CheckError([(key, "is not supported by the embedded engine") for key in unsupported])
        result = _run(LOCAL, inputs, inputs["command"], {}, Context(urn=""))
        return {**inputs, "stdout": result[0], "stderr": result[1]}


def _outputs(type_: str, inputs: Values, command: str | None, old: Values, context: Context) -> dict[str, Any]:
    outputs = dict(inputs)
    if type_ == COPY:
        if not context.preview and any(old.get(key) != inputs[key] for key in ("source", "remotePath")):
            _copy(inputs, context)
    else:
        stdout, stderr = (UNKNOWN, UNKNOWN) if context.preview else _run(type_, inputs, command, old, context)
        outputs |= {"stdout": stdout, "stderr": stderr}
    return outputs | {"connection": Secret(inputs["connection"])} if "connection" in inputs else outputs


def _copy(inputs: Values, context: Context) -> None:
    source, target = inputs["source"].path, inputs["remotePath"]
    job = shell.Job(command=f"copy {source} to {target}", context=context)
    shell.run(job, partial(ssh.copy, inputs["connection"], source, target))


def _run(type_: str, inputs: Values, command: str | None, old: Values, context: Context) -> tuple[str, str]:
    previous = {f"PULUMI_COMMAND_{key.upper()}": str(old.get(key) or "") for key in ("stdout", "stderr")}
    if command is None:
        return previous["PULUMI_COMMAND_STDOUT"], previous["PULUMI_COMMAND_STDERR"]
    if inputs.get("addPreviousOutputInEnv") is False:
        previous = {}
    job = shell.Job(
        command=command,
        context=context,
        stdin=inputs.get("stdin") or "",
        environment={**inputs.get("environment", {}), **{key: text for key, text in previous.items() if text}},
        log=_LOGGING.get(inputs.get("logging", "stdoutAndStderr"), (False, False)),
    )
    return shell.run(job, partial(ssh.remote, inputs["connection"])) if type_ == REMOTE else shell.run(job)
