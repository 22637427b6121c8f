"""A target of its own for every test, and a way to promote engines to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from slipway.config.deploy import DeployConfig
from slipway.deployment.promotion import promote
from slipway.deployment.releases import Release
from slipway.deployment.state import stop
from slipway.errors import ResourceError, StateError
from slipway.store.artifacts import Dataset
from slipway.store.store import Store
from tests.support.target import JSON_ANSWER, Ship, make_data, make_engine, make_verdict, running, target_params


@pytest.fixture
def params(tmp_path: Path) -> DeployConfig:
    return target_params(str(tmp_path / "target"))


@pytest.fixture(autouse=True)
def no_engine_outlives_a_test(params: DeployConfig) -> Iterator[None]:
    yield
    with suppress(StateError, ResourceError):  # a test may have damaged its records; its engines end all the same
        stop(params)
    assert running(params) == []


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def data(store: Store) -> Dataset:
    return make_data(store)


@pytest.fixture
def ship(store: Store, data: Dataset, params: DeployConfig) -> Ship:
    """Promote an engine that behaves as told."""

    def promote_engine(
        note: Callable[[str], None] = lambda _: None, config: DeployConfig = params, **model: Any
    ) -> Release:
        engine = make_engine(store, {"answer": JSON_ANSWER, **model})
        return promote(
            engine,
            make_verdict(store, engine),
            data,
            {"card.md": "# Card\n"},
            config,
            model="m",
            runs={"mlflow": "r1"},
            note=note,
        )

    return promote_engine
