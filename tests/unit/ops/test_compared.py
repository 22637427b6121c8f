"""Words of `slipway compare`: paths, digits of versions and evaluations, and runs that a release here came of."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.config.load import Config
from slipway.errors import ConfigError, StateError
from slipway.ops.compared import measurement
from slipway.report.record import RunRecord
from slipway.store.artifacts import Verdict
from slipway.store.store import Store
from tests.support.record import put, record

FLOW_RUN, TRACKED = "01234567-89ab-cdef-0123-456789abcdef", "0" * 31 + "f"


@pytest.fixture
def run(tmp_path: Path) -> RunRecord:
    """A run whose verdict names its engine too, as the gate's does."""
    made = record(tmp_path)
    document = made.verdict.read_json("verdict.json")
    shutil.rmtree(made.verdict.path)
    store = Store(tmp_path / "store")
    verdict = put(store, Verdict, "gate", "v2", {"verdict.json": document}, engine=made.engine, **made.quality)
    return replace(made, verdict=verdict)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config.model_validate(
        {"store": {"root": str(tmp_path / "store")}, "deploy": {"root": str(tmp_path / "target")}}
    )


def release(root: Path, run: RunRecord) -> None:
    folder = root / "releases" / f"0001-{run.engine.digest[:8]}"
    folder.mkdir(parents=True)
    document = {
        "name": folder.name,
        "path": str(folder),
        "model": "m",
        "created": "2026-01-01T00:00:00Z",
        "outcome": "pass",
        "digests": {"engine": run.engine.digest},
        "runs": {"mlflow_run": TRACKED, "prefect_flow_run": FLOW_RUN},
    }
    (folder / "release.json").write_text(json.dumps(document))


def test_a_version_stands_for_its_candidates_evaluation(run: RunRecord, config: Config) -> None:
    wanted = run.quality["candidate"].path.resolve()
    assert measurement(run.verdict.digest[:6], config).resolve() == wanted
    assert measurement(run.engine.digest[:12], config).resolve() == wanted


def test_an_evaluation_is_named_by_its_digest(run: RunRecord, config: Config) -> None:
    for side in ("base", "merged", "candidate"):
        made = run.quality[side]
        assert measurement(made.digest[:10], config).resolve() == made.path.resolve()


@pytest.mark.parametrize("name", [FLOW_RUN, TRACKED])
def test_a_run_is_named_by_its_id_where_a_release_came_of_it(
    run: RunRecord, config: Config, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ConfigError, match="released run of store"):
        measurement(name, config)
    release(tmp_path / "target", run)
    assert measurement(name, config).resolve() == run.quality["candidate"].path.resolve()


def test_a_path_is_itself_whatever_it_is_called(run: RunRecord, config: Config, tmp_path: Path) -> None:
    assert measurement(str(tmp_path), config) == tmp_path
    assert run.verdict.digest


@pytest.mark.parametrize("word", ["nothing", "abc", "123456", "../x", ""])
def test_what_names_nothing_is_refused_by_name(run: RunRecord, config: Config, word: str) -> None:
    if not Path(word).exists():
        with pytest.raises(ConfigError, match="slipway history"):
            measurement(word, config)
    assert run.verdict.digest


def test_an_evaluation_that_was_removed_is_said(run: RunRecord, config: Config) -> None:
    shutil.rmtree(run.quality["candidate"].path)
    with pytest.raises(StateError):
        measurement(run.verdict.digest[:8], config)
