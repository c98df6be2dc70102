"""A pytest plugin that notes what a run's tests make: each object, and those of each stack that the settings accept.

`pytest -p objects_of_tests --objects FILE` writes a line of JSON for each: itself as text, and the first test with it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from made_objects import asked_by, text_of, texts
from pulumi.runtime.rpc import UNKNOWN
from recording import Recorder

from manifests.program import CHARTS, plain
from settings import Settings, parsing


class Notes:
    """Objects and stacks, each with the first test that has it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.objects: dict[str, str] = {}
        self.stacks: dict[str, tuple[str, Settings]] = {}
        self.patch = pytest.MonkeyPatch()
        register = Recorder.RegisterResource

        def registered(recorder: Recorder, request: Any) -> Any:
            self.register(request)
            return register(recorder, request)

        self.patch.setattr(Recorder, "RegisterResource", registered)
        self.patch.setattr(parsing, "Settings", self.accept)

    def register(self, request: Any) -> None:
        """Note what a test registers, but for what is known only once something else has been made."""
        if request.type.startswith("kubernetes:") and request.type not in CHARTS:
            obj = plain(MessageToDict(request.object))
            if "name" in obj["metadata"] and UNKNOWN not in json.dumps(obj):
                self.objects.setdefault(text_of(obj), _test())

    def accept(self, **parts: Any) -> Settings:
        """Note a stack that the settings accept."""
        stack = Settings(**parts)
        self.stacks.setdefault(repr(stack), (_test(), stack))
        return stack

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        """Make the stacks' objects, and write all of them."""
        self.patch.undo()
        for test, stack in self.stacks.values():
            try:
                made = texts(asked_by(stack))
            except Exception as error:
                raise AssertionError(f"the settings accept a stack of {test} that the program cannot make") from error
            for text in made:
                self.objects.setdefault(text, test)
        self.file.write_text("".join(json.dumps([text, test]) + "\n" for text, test in self.objects.items()))


def _test() -> str:
    return os.environ.get("PYTEST_CURRENT_TEST", "").removesuffix(" (call)")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--objects", type=Path, required=True, help="file for the objects")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Notes(config.getoption("--objects")))
