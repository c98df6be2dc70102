"""The examples of docs/gateways.md and docs/revisions.md are right."""

import re
from pathlib import Path
from typing import Any

import yaml
from tls import Authority

from settings import Settings, parse

DOCS = Path(__file__).parents[2] / "docs"


def described(name: str, stack: dict[str, Any], project: Path) -> Settings:
    """The settings of a stack with a document's example over it."""
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)
    for key, part in yaml.safe_load(example).items():
        section = stack.setdefault(key.removeprefix("istio-vm-mesh:"), {})
        section.update(part)
    return parse(stack, project_dir=project)


def test_gateways(stack: dict[str, Any], project: Path) -> None:
    (project / "tls").mkdir()
    Authority(project / "tls").issue("shop", "shop.example.com")
    settings = described("gateways.md", stack, project)
    assert set(settings.certificates) == {"shop-tls"}
    assert settings.ingress_gateway.hosts["shop.example.com"].tls


def test_revisions(stack: dict[str, Any], project: Path) -> None:
    settings = described("revisions.md", stack, project)
    assert settings.istio.revisions["1-32"].version == "1.32.0"
    assert settings.workloads["ledger"].revision == "1-32"
