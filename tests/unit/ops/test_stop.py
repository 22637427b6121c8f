"""`slipway stop`: all that can be ended is, whatever one record holds, and the report says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.config.load import Config
from slipway.deployment.promotion import promote
from slipway.errors import StateError
from slipway.ops.stop import stop
from slipway.pipeline.runs import Runs
from slipway.store.store import Store
from tests.support.target import JSON_ANSWER, make_data, make_engine, make_verdict, running, target_params


@pytest.fixture
def config(tmp_path: Path) -> Config:
    deploy = target_params(str(tmp_path / "target"))
    return Config.model_validate({"store": {"root": str(tmp_path / "store")}, "deploy": deploy.model_dump()})


def serve(config: Config) -> str:
    store = Store(Path(config.store.root))
    engine = make_engine(store, {"answer": JSON_ANSWER})
    return promote(engine, make_verdict(store, engine), make_data(store), {}, config.deploy, model="m").name


def test_an_idle_store_has_nothing_to_stop(config: Config) -> None:
    assert stop(config).to_json() == {"engines": [], "stages": [], "runs_at_work": []}


def test_the_engine_is_ended_and_a_run_at_work_is_named(config: Config) -> None:
    name = serve(config)
    with Runs(Path(config.store.root)).open("pico -> local", "slipway run", "u", "") as run:
        report = stop(config)
    assert [engine.release for engine in report.engines] == [name]
    assert [entry.process.pid for entry in report.at_work] == [run.process.pid]
    assert running(config.deploy) == []


def test_one_damaged_record_keeps_nothing_from_being_ended(config: Config, tmp_path: Path) -> None:
    serve(config)
    (tmp_path / "target" / "history.jsonl").write_bytes(b"\x00\xff")
    (tmp_path / "store" / "runs").mkdir()
    (tmp_path / "store" / "runs" / "x.json").write_text("{")
    report = stop(config)
    assert len(report.engines) == 1
    assert running(config.deploy) == []
    assert isinstance(report.error, StateError)
    assert "history.jsonl" in json.dumps(report.to_json()["error"])
