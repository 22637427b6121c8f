"""MLflow as people leave it: experiments, runs and registered models deleted in the UI, and then a run again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from slipway.config.load import Config
from slipway.deployment.candidate import names_a_version
from slipway.errors import StateError
from tasks.tracking.client import library
from tasks.tracking.registry import engine_of_version, register, set_champion, version_of
from tasks.tracking.run import Tracker, close_killed, pipeline_run
from tests.support.record import record

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, about its dependencies


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tracking store; MLflow on a database keeps its files under the working directory."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        yield f"sqlite:///{folder}/mlflow.db"
        library().set_tracking_uri(None)


@pytest.fixture
def config(server: str, request: pytest.FixtureRequest) -> Config:
    """An experiment and a registered model of the test's own."""
    name = request.node.name.replace("_", "-")[:40]
    return Config.model_validate({"tracking": {"uri": server, "experiment": name}, "model": {"name": name}})


def client(config: Config) -> MlflowClient:
    return MlflowClient(config.tracking.uri.get_secret_value())


def run(config: Config, tmp_path: Path, run_id: str = "a") -> tuple[Tracker, str]:
    """A run as the flow makes it: a stage, the report's registration, the champion's alias; the model's version."""
    shipped = record(tmp_path / run_id)
    with pipeline_run(config, run_id) as tracker:
        with tracker.stage("engine", {}, config.engine):
            pass
        version = register(tracker, shipped.engine, shipped.verdict, "# Card\n")
    assert set_champion(config, shipped.engine.digest) == version
    return tracker, version


def champion(config: Config) -> str:
    """The version that the target's alias names."""
    return str(client(config).get_model_version_by_alias(config.line, "local-champion").version)


def statuses(config: Config) -> dict[str, str]:
    experiment = client(config).get_experiment_by_name(config.tracking.experiment)
    assert experiment
    return {r.info.run_id: r.info.status for r in client(config).search_runs([experiment.experiment_id])}


def test_a_deleted_experiment_is_restored_with_what_it_held(config: Config, tmp_path: Path) -> None:
    first, _ = run(config, tmp_path)
    client(config).delete_experiment(first.experiment)
    second, _ = run(config, tmp_path, "b")
    assert second.experiment == first.experiment
    assert client(config).get_experiment(first.experiment).lifecycle_stage == "active"
    assert second.parent in statuses(config)


def test_a_deleted_run_stays_deleted_and_the_next_is_whole(config: Config, tmp_path: Path) -> None:
    first, version = run(config, tmp_path)
    client(config).delete_run(first.parent)
    second, again = run(config, tmp_path, "b")
    assert first.parent not in statuses(config)
    assert statuses(config)[second.parent] == "FINISHED"
    assert again == version  # the same engine
    assert champion(config) == version


def test_a_deleted_registered_model_is_made_anew_with_its_alias(config: Config, tmp_path: Path) -> None:
    run(config, tmp_path)
    client(config).delete_registered_model(config.line)
    assert version_of(client(config), config.line, record(tmp_path / "c").engine.digest) == ""
    _, version = run(config, tmp_path, "b")
    assert version == "1"
    assert champion(config) == "1"


def test_a_deleted_version_or_logged_model_is_made_anew(config: Config, tmp_path: Path) -> None:
    tracker, version = run(config, tmp_path)
    client(config).delete_model_version(config.line, version)
    for model in client(config).search_logged_models([tracker.experiment]):
        client(config).delete_logged_model(model.model_id)
    _, again = run(config, tmp_path, "b")
    assert int(again) > int(version)
    assert champion(config) == again


def test_a_version_is_named_by_its_number_or_an_alias(config: Config, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="versions none; aliases none"):
        engine_of_version(config, "1")
    shipped = record(tmp_path / "a")
    _, version = run(config, tmp_path)
    for named in (version, "local-champion", "@local-champion"):
        assert names_a_version(named)
        assert engine_of_version(config, named) == shipped.engine.digest
    for named in ("9", "@spark-champion", "nothing"):
        with pytest.raises(StateError, match=rf"{named}: no version.*versions 1; aliases local-champion \(1\)"):
            engine_of_version(config, named)
    client(config).delete_model_version_tag(config.line, version, "digest")
    with pytest.raises(StateError, match="1 has no engine's digest"):
        engine_of_version(config, version)


def test_an_interrupted_run_is_killed_and_one_that_raised_has_failed(config: Config) -> None:
    for error, status in ((KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")):
        with (
            pytest.raises(error),
            pipeline_run(config, "x") as tracker,
            tracker.stage("train", {}, config.train) as stage,
        ):
            raise error("stop")
        assert statuses(config)[tracker.parent] == statuses(config)[stage.run_id] == status


def test_only_what_the_killed_run_opened_is_closed(config: Config) -> None:
    """As a kill leaves it: open runs of ours, and those of others in the same experiment."""
    mlflow = client(config)
    experiment = mlflow.create_experiment(config.tracking.experiment)
    ours = mlflow.create_run(experiment, tags={"slipway.run": "a"}).info.run_id
    ended = mlflow.create_run(experiment, tags={"slipway.run": "a"}).info.run_id
    mlflow.set_terminated(ended, "FAILED")
    others = [mlflow.create_run(experiment, tags=tags).info.run_id for tags in ({"slipway.run": "b"}, {})]
    library().set_tracking_uri(config.tracking.uri.get_secret_value())
    assert close_killed(config.tracking.experiment, "a") == [ours]
    assert statuses(config) == {ours: "KILLED", ended: "FAILED", **dict.fromkeys(others, "RUNNING")}
    assert close_killed("no such experiment", "a") == []
