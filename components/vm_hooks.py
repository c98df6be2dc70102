"""What the program does for a VM while it runs: uploads, the token, the way out of the mesh and back into it.

Each is done right before the step that needs it, as the engine's hook of that step.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi

from cluster.errors import ApiError
from components.common import known
from components.control_plane import certificate_digest
from components.credential import CredentialArgs, keep_secret, mark_used, token_if_needed
from components.entry import ENTRY_KEY, EntryArgs, back_or_why_not, leave, leave_as, remember_attempt
from components.hooks import Refused, in_thread
from components.vm_plan import VirtualMachineArgs
from hosts import plan
from hosts.plan import DesiredHost
from registration.comeback import Seen

if TYPE_CHECKING:
    from hosts.ssh import Conversation

COMMAND_SECONDS = 150
"""For a short command on a VM, which has a deadline of its own."""
UPLOAD_SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class VmHooks:
    """The hooks of one VM."""

    name: str
    args: VirtualMachineArgs
    credential: CredentialArgs
    entry: EntryArgs
    host: pulumi.Output[DesiredHost]
    """Unknown where something before it has failed: the steps' own commands say so then."""

    async def upload(self, _: pulumi.ResourceHookArgs) -> None:
        """Before `configure`: bring the VM the program and the packages that it does not have yet."""
        desired = await known(self.host)
        if desired is None:
            return
        uploads = plan.uploads(desired)
        async with self._on_vm() as vm:
            there = await _said(vm, plan.present_command(uploads), COMMAND_SECONDS)
            for upload in plan.missing(uploads, there):
                content = upload.content or await in_thread(_content, str(upload.file))
                await _said(vm, plan.receive_command(upload), UPLOAD_SECONDS, content)

    async def keep_credential(self, args: pulumi.ResourceHookArgs) -> None:
        """Before `membership`: delete the entry of a VM that is to have another name, and make its token's Secret."""
        before, now = [await _environment(inputs) for inputs in (args.old_inputs, args.new_inputs)]
        await leave_as(self.args.client, self.entry, before.get(ENTRY_KEY, ""))
        await keep_secret(self.args.client, self.credential, before, now)

    async def leave_and_get_token(self, _: pulumi.ResourceHookArgs) -> None:
        """Before `enrol`: take a VM that serves otherwise out of the mesh, and bring it a token if it needs one."""
        desired = await known(self.host)
        if desired is None:
            return
        await leave(self.args.client, self.entry, desired.configuration)
        token = await token_if_needed(self.args.client, self.credential, _root(desired))
        if token:
            async with self._on_vm() as vm:
                await _said(vm, plan.take_token(desired), COMMAND_SECONDS, token.encode())

    async def come_back(self, args: pulumi.ResourceHookArgs) -> None:
        """Before `confirm` is run again: wait until a VM with a new configuration is in the mesh; or take it back."""
        desired = await known(self.host)
        if desired is None or not changes_configuration(args.old_inputs, args.new_inputs):
            return
        client, configuration = self.args.client, desired.configuration
        found, reason = await back_or_why_not(client, self.entry, configuration)
        if found is Seen.OTHER:
            await leave(client, self.entry, configuration)
            async with self._on_vm() as vm:
                stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
                await _said(vm, plan.anew(desired, stamp).command, COMMAND_SECONDS)
            found, reason = await back_or_why_not(client, self.entry, configuration)
            reason = reason or "it is registered with another configuration"
        if found is not Seen.BACK:
            await remember_attempt(client, self.entry, configuration)
            then = await self._taken_back(desired, reason)
            raise Refused(f"VM {self.name} is not back in the mesh: {reason}; {then}")

    async def mark_used(self, stdout: str) -> str:
        """After `confirm`, in whatever run that becomes known: let the Secret say that its token was used."""
        desired = await known(self.host)
        if pulumi.runtime.is_dry_run() or desired is None:
            return stdout
        root = _root(desired)
        if self.args.wanted_token.used != root:
            try:
                await mark_used(self.args.client, self.credential, root)
            except ApiError as error:
                if error.status == 404:  # deleted by hand
                    return stdout
                pulumi.log.warn(f"VM {self.name} is confirmed, but its Secret does not say so: {error}; run up again")
        return stdout

    async def _taken_back(self, desired: DesiredHost, reason: str) -> str:
        """Have the VM take the start back at once, and return what it says of that."""
        from hosts.ssh import SshError

        step = plan.not_back(desired, reason)
        try:
            async with self._on_vm() as vm:
                answer = await vm.run(step.command, stdin=step.stdin.encode(), seconds=COMMAND_SECONDS)
        except (Refused, SshError) as error:
            return f"it takes that back by itself ({error})"
        return (answer.errors.strip() or answer.output.strip()).splitlines()[-1]

    @asynccontextmanager
    async def _on_vm(self) -> AsyncIterator[Conversation]:
        from hosts.ssh import SshError, conversation  # asyncssh takes its time to import

        try:
            async with conversation(self.args.ssh) as vm:
                yield vm
        except SshError as error:
            raise Refused(str(error)) from None


async def _said(vm: Conversation, command: str, seconds: float, stdin: bytes | None = None) -> str:
    """What a command on the VM prints; its last line of standard error is the reason where it fails."""
    answer = await vm.run(command, stdin=stdin or b"", seconds=seconds)
    if answer.status != 0:
        raise Refused((answer.errors.strip() or f"it ended with status {answer.status}").splitlines()[-1])
    return answer.output


def confirm_command(desired: DesiredHost, mark: str) -> str:
    """The command that confirms the VM; its last word, which the VM does not read, is the configuration."""
    return f"{plan.confirm(desired, mark).command} {desired.configuration}"


def changes_configuration(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> bool:
    """Whether the VM is to have another configuration, by the commands that confirmed it and are to confirm it."""
    before, after = (str((inputs or {}).get("create", "")).split(" ")[-1] for inputs in (old, new))
    return before != after


async def _environment(inputs: Mapping[str, Any] | None) -> dict[str, str]:
    """The environment of a command; with a private key in it, the SDK makes a secret of the whole."""
    given = (inputs or {}).get("environment")
    return await pulumi.Output.from_input(given).future() or {}


def _root(desired: DesiredHost) -> str:
    """What tells one root of the mesh from the next: with another one, a VM's certificate is worth nothing."""
    return certificate_digest(desired.files.root_certificate)


@functools.lru_cache(maxsize=8)
def _content(path: str) -> bytes:
    return Path(path).read_bytes()
