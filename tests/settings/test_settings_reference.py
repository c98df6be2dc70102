"""The configuration reference says what the models say."""

import re
from pathlib import Path

from settings.reference import reference

COMMITTED = Path(__file__).parents[2] / "docs/configuration.md"


def test_the_committed_reference_is_current() -> None:
    assert COMMITTED.read_text() == reference(), "run: python -m settings.reference > docs/configuration.md"


def test_every_key_has_a_type_and_a_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|(.*)\|(.*)\|$", reference(), re.MULTILINE)
    assert len(rows) > 50
    for key, kind, default, meaning in rows:
        assert kind.strip(), key
        assert default.strip(), key
        assert meaning.strip().endswith("."), key


def test_every_link_leads_to_a_section() -> None:
    text = reference()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}
    links = set(re.findall(r"\(#([^)]+)\)", text))
    assert len(anchors) == len(headings)
    assert links == anchors - {"top-level"}
