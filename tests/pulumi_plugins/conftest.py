"""The plugins under test: the lab's own, or those of the folder that `PLUGINS` names."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin_client import Engine, Provider

from lab.pulumi import write_plugins


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if folder := os.environ.get("PLUGINS"):
        return Path(folder)
    folder_of_ours = tmp_path_factory.mktemp("plugins")
    write_plugins(folder_of_ours, sys.executable)
    return folder_of_ours


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.server.stop(None).wait()


@pytest.fixture(scope="session")
def provider(plugins: Path, engine: Engine) -> Iterator[Provider]:
    os.environ.pop("SSH_AUTH_SOCK", None)
    provider = Provider(plugins / "pulumi-resource-command", engine)
    yield provider
    provider.interrupt()
