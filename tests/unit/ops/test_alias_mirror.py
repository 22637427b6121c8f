"""Alias and pointer: drift is seen and mended; a switch while MLflow was away is caught up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from slipway.config.load import Config
from slipway.deployment.pending_alias import pending_aliases
from slipway.deployment.promotion import promote
from slipway.deployment.releases import Release
from slipway.deployment.state import stop
from slipway.ops.alias_mirror import alias_of, follow_pointer, mirror, seen
from slipway.store.store import Store
from slipway.system.ports import any_port
from tests.support.mlflow_registry import Registry, registry
from tests.support.target import make_data, make_engine, make_verdict, target_params
from tests.support.world import ROOT


@pytest.fixture
def data() -> Iterator[Registry]:
    with registry() as data:
        yield data


@pytest.fixture
def release(tmp_path: Path) -> Iterator[Release]:
    """One release of line `home` that serves on the target below `tmp_path`."""
    params, store = target_params(str(tmp_path / "target")), Store(tmp_path / "store")
    engine = make_engine(store, {"answer": "x"})
    try:
        yield promote(engine, make_verdict(store, engine), make_data(store), {}, params, model="home")
    finally:
        stop(params)


def config(tmp_path: Path, uri: str, **deploy: Any) -> Config:
    return Config.model_validate(
        {
            "deploy": {"root": str(tmp_path / "target"), **deploy},
            "store": {"root": str(tmp_path / "store")},
            "tracking": {"uri": uri},
        }
    )


def test_drift_is_said_and_mended(tmp_path: Path, data: Registry, release: Release) -> None:
    here, engine = config(tmp_path, data.url), release.digests["engine"]
    assert mirror(here).state == "not registered"
    data.versions = {("home", "b" * 64): "1", ("home", engine): "2"}
    data.aliases[("home", "local-champion")] = "1"
    drift = mirror(here)
    assert (drift.state, drift.names, drift.pointer) == ("differs", "b" * 64, engine)
    assert "status --mend" in drift.sentence
    assert follow_pointer(here).state == "same"
    assert data.aliases[("home", "local-champion")] == "2"
    assert mirror(here).sentence == ""


def test_a_switch_while_mlflow_is_away_is_caught_up_by_the_next_command(
    tmp_path: Path, data: Registry, release: Release
) -> None:
    away = config(tmp_path, f"http://127.0.0.1:{any_port()}")
    left = follow_pointer(away)
    assert left.pending
    assert "as soon as MLflow answers" in left.sentence
    assert mirror(away).pending
    (row,) = pending_aliases(tmp_path / "store")
    assert (row.target, row.line, row.engine) == ("local", "home", release.digests["engine"])
    data.versions = {("home", row.engine): "7"}
    assert follow_pointer(config(tmp_path, data.url)).state == "same"
    assert data.aliases == {("home", "local-champion"): "7"}
    assert pending_aliases(tmp_path / "store") == []


def test_a_look_sets_what_is_pending_and_mends_drift_only_when_asked(
    tmp_path: Path, data: Registry, release: Release
) -> None:
    here, engine = config(tmp_path, data.url), release.digests["engine"]
    data.versions = {("home", "b" * 64): "1", ("home", engine): "2"}
    data.aliases[("home", "local-champion")] = "1"
    assert seen(here, mend=False).state == "differs"
    assert seen(here, mend=True).state == "same"
    data.aliases[("home", "local-champion")] = "1"
    follow_pointer(config(tmp_path, f"http://127.0.0.1:{any_port()}"))
    assert seen(here, mend=False).state == "same"
    assert pending_aliases(tmp_path / "store") == []


def test_an_engine_that_mlflow_does_not_know_leaves_nothing_pending(
    tmp_path: Path, data: Registry, release: Release
) -> None:
    assert follow_pointer(config(tmp_path, data.url)).state == "not registered"
    assert pending_aliases(tmp_path / "store") == []


def test_where_nothing_serves_there_is_nothing_to_mirror(tmp_path: Path, data: Registry) -> None:
    here = config(tmp_path, data.url)
    assert mirror(here).state == follow_pointer(here).state == "nothing serves"


def test_a_tracking_database_is_left_to_the_next_run(tmp_path: Path, release: Release) -> None:
    here = config(tmp_path, f"sqlite:///{tmp_path}/ml.db")
    assert mirror(here).state == "cannot tell"
    assert follow_pointer(here).pending


def test_the_alias_is_named_by_the_project_s_policy() -> None:
    assert alias_of(ROOT, "spark") == "spark-champion"
