"""Training by NeMo inside a pipeline run: the task, its progress in Prefect, its metrics in MLflow; the lab's trainer
is `automodel`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.client.orchestration import get_client

from slipway.config.load import Config
from slipway.errors import ResourceError
from slipway.system.ports import any_port
from tasks.fetch import fetch
from tasks.pipeline import pipeline
from tasks.prepare import prepare
from tasks.train import train
from tests.support.nemo import SHAPE, TRAINER
from tests.support.pico import LAYERS
from tests.support.prefect_server import prefect_server
from tests.support.world import small_config

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's and Prefect's own, about their dependencies
]
VOCABULARY = 384


@flow(name="fine-tune")
def fine_tune(config: Config) -> Any:
    with pipeline(config, "fine-tune") as run:
        base = fetch(run)
        return train(run, base, prepare(run, base)), run.summary


def nemo_config(folder: Path, **more: Any) -> Config:
    """The small world, trained by NeMo on this machine."""
    shape = {f"model.{k}": v for k, v in {**SHAPE, "layers": LAYERS, "vocabulary": VOCABULARY}.items()}
    settings = {
        "train.backend": "nemo",
        "train.method": "lora",
        "train.upper_layers": 18,
        "train.threads": "null",
        "train.accumulate": 2,
        "train.pack_length": 512,
        "train.global_batch": 2,
        "train.lr": 1.0e-4,
        "train.weight_decay": 0.0,
        "train.dropout": 0.0,
        "train.epochs": 6,
        "train.max_steps": 12,
        "train.micro_batch": 1,
    }
    return small_config(folder, f"sqlite:///{folder}/mlflow.db", any_port(), **{**shape, **settings, **more})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch, prefect_server(pytestconfig):
        patch.chdir(folder)  # MLflow on a database keeps its files under the working directory
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv(
            "PATH", os.pathsep.join([str(TRAINER.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
        )
        yield folder


@pytest.fixture(scope="module")
def trained(folder: Path) -> Any:
    return fine_tune(nemo_config(folder))


def test_the_task_train_runs_the_stage_finetune(trained: Any) -> None:
    adapter, summary = trained
    assert [(s.stage, s.reused) for s in summary.stages] == [("fetch", False), ("prepare", False), ("train", False)]
    assert adapter.manifest["provenance"]["stage"] == "train_nemo"
    assert adapter.summary["steps"] == 12 and (adapter.path / "recipe.yaml").exists()


def test_prefect_shows_its_progress(trained: Any) -> None:
    with get_client(sync_client=True) as client:
        answer = client.request("POST", "/artifacts/latest/filter", json={})
    assert {a["key"]: a["data"] for a in answer.json()}["train-progress"] == 100.0


def test_mlflow_has_every_step_once(trained: Any, folder: Path) -> None:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("test")
    assert experiment
    (run,) = [r for r in client.search_runs([experiment.experiment_id]) if r.info.run_name == "train"]
    for key in ("loss", "lr", "tokens_per_s", "memory_gib"):
        assert [m.step for m in client.get_metric_history(run.info.run_id, key) if m.step] == list(range(1, 13)), key
    assert run.data.params["train.rank"] == "4" and run.data.params["target.runner.kind"] == "local"


def test_what_it_lacks_is_one_error_of_the_run(trained: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(ResourceError, match="automodel is not installed"):
        fine_tune(nemo_config(folder, **{"train.seed": 3}))
