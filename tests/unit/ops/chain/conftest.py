from pathlib import Path

import pytest

from slipway.config.load import Config
from tests.support.world import small_config


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pico model and rows, which nobody writes to."""
    here = tmp_path_factory.mktemp("planned")
    small_config(here, "sqlite:///planned.db", 1)
    return here


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> Config:
    """A run of the pico model that is served for comparison, with a store and a target of its own."""
    more = {"store.root": tmp_path / "store", "deploy.root": tmp_path / "target", "evaluate.reference": "served"}
    return small_config(folder, "sqlite:///planned.db", 1, **more)
