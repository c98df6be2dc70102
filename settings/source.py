"""Reads the running program's configuration from Pulumi."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from settings.parsing import parse
from settings.problems import SettingsError
from settings.result import Settings
from settings.stack_file import SECRET, misplaced, unencrypted

if TYPE_CHECKING:
    import pulumi


def load() -> Settings:
    """Return the settings of the stack that runs.

    Raises:
        pulumi.RunError: With every problem; Pulumi prints it without a traceback.
    """
    # Here, since commands that read a stack file need none of Pulumi, which takes 0.3 s to import.
    import pulumi
    from pulumi.runtime import config as runtime

    config = pulumi.Config()
    prefix = f"{config.name}:"
    given = sorted(key for key in {*runtime.CONFIG.get(), *runtime.get_config_env()} if key.startswith(prefix))
    secret = {key for key in given if runtime.is_config_secret(key) or key in runtime.get_config_secret_keys_env()}
    raw = {key.removeprefix(prefix): _value(key.removeprefix(prefix), config) for key in given}
    sealed = frozenset(key.removeprefix(prefix) for key in secret)
    found = [misplaced(key) for key in sorted(sealed - {SECRET})]
    if raw.get(SECRET) and SECRET not in sealed:
        found.append(unencrypted())
    try:
        return parse(raw, project_dir=Path.cwd(), sealed=sealed, found=found)
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None


def _value(key: str, config: pulumi.Config) -> Any:
    """Return a key's value as plain data; Pulumi hands every value over as text."""
    text = config.get(key)
    if text is None or key == SECRET:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
