"""Whole runs in one world: a Prefect harness and an MLflow of its own, a pico model, and what a run left in each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from prefect import State
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from flows.finetune_and_ship import finetune_and_ship
from slipway.config.load import Config
from slipway.deployment.state import stop
from slipway.system.ports import any_port
from tests.support.prefect_server import prefect_server
from tests.support.world import small_config

MARKS = [
    pytest.mark.timeout(1800),  # the first run on a machine builds the engine
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's and Prefect's own, about their dependencies
]
LINE = "rows-pico"  # data and model


@dataclass
class Outcome:
    """A run: its name and final state, its summary, its task runs by name, its MLflow run."""

    name: str
    state: State[Any]
    summary: dict[str, Any]
    tasks: dict[str, State[Any]] = field(default_factory=dict)
    mlflow: Any = None

    def reused(self) -> dict[str, bool]:
        return {s["stage"]: s["reused"] for s in self.summary["stages"]}


@dataclass
class World:
    """Where the runs of this room happen; `go` is one run with more settings."""

    folder: Path
    tracking: str
    port: int = field(default_factory=any_port)

    def config(self, **more: Any) -> Config:
        return small_config(self.folder, self.tracking, self.port, **more)

    def go(self, flow: Callable[..., Any] = finetune_and_ship, **more: Any) -> Outcome:
        return self.run(flow(self.config(**more), return_state=True))

    def run(self, state: State[Any]) -> Outcome:
        """What a flow's final state is about."""
        summary = json.loads((self.folder / "store" / "last-run.json").read_text())
        with get_client(sync_client=True) as client:
            runs = client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
            )
            name = client.read_flow_run(state.state_details.flow_run_id).name
        return Outcome(name, state, summary, {r.name: r.state for r in runs if r.state}, self.parents()[0])

    def client(self) -> MlflowClient:
        return MlflowClient(self.tracking)

    def champion(self) -> str:
        """The version that MLflow's alias names."""
        return str(self.client().get_model_version_by_alias(LINE, "local-champion").version)

    def verdicts_of(self, outcome: str) -> list[Path]:
        """The verdicts with this outcome, newest first."""
        files = sorted(self.folder.glob("store/verdict/*/verdict.json"), key=lambda file: file.lstat().st_mtime)
        return [file.parent for file in reversed(files) if json.loads(file.read_text())["outcome"] == outcome]

    def parents(self) -> list[Any]:
        """Pipeline runs, newest first."""
        return [r for r in self.runs() if "mlflow.parentRunId" not in r.data.tags]

    def children(self, parent: Any) -> dict[str, Any]:
        return {r.info.run_name: r for r in self.runs() if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id}

    def runs(self) -> list[Any]:
        experiment = self.client().get_experiment_by_name("test")
        assert experiment
        return list(self.client().search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"]))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch, prefect_server(pytestconfig):
        patch.chdir(folder)  # MLflow on a database keeps its files under the working directory
        patch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "1")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        here = World(folder, f"sqlite:///{folder}/mlflow.db")
        yield here
        stop(here.config().deploy)
