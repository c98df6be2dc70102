"""The examples in the guides are stacks that the settings take."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from settings.stack_file import load_yaml

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = [
    pytest.param(load_yaml(block), id=f"{guide}-{number}")
    for guide in ("policies", "safety", "services", "uninstall", "ways")
    for number, block in enumerate(
        re.findall(r"^```yaml\n(.*?)^```", (DOCS / f"{guide}.md").read_text(), re.MULTILINE | re.DOTALL)
    )
]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_right(
    example: dict[str, Any], stack: dict[str, Any], problems: Callable[..., list[str]]
) -> None:
    for key, value in example.items():
        section = key.removeprefix("istio-vm-mesh:")
        assert section != key
        stack[section] = {**stack[section], **value} if section in ("hosts", "istio") else value
    assert problems(stack) == []


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 6
