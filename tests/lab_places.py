"""Moves all of the lab's places below a temporary folder, for tests that must not touch the machine's lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import paths


def move(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    roots = {paths.RUN: folder / "run", paths.DATA: folder / "data", paths.CHECKOUT: folder / "checkout"}
    for name, value in list(vars(paths).items()):
        if isinstance(value, Path):
            for old, new in roots.items():
                if value.is_relative_to(old):
                    monkeypatch.setattr(paths, name, new / value.relative_to(old))
    (folder / "run").mkdir()
    (folder / "checkout").mkdir()
    return folder
