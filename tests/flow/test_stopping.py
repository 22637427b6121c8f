"""`slipway run` told to end, or killed, while a stage works: nothing runs on unnamed, nothing stays open anywhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from slipway.ops.stage_processes import stage_processes
from slipway.system.ports import any_port
from slipway.system.processes import ProcessIdentity, is_alive, send_group
from tests.support.prefect_server import prefect_server
from tests.support.terminal import signals_of_a_terminal
from tests.support.world import ROOT, small_settings

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # MLflow's and Prefect's own, about their dependencies
]
NAME = "pico qlora nvfp4a16 -> local"
ENDLESS = {"train.max_steps": 1000000, "train.epochs": 1000000}


@dataclass
class Shell:
    """A terminal in the project's root, with a store, an MLflow and a Prefect server of its own."""

    folder: Path
    environment: dict[str, str]
    overrides: list[str]

    def run(self, *prefix: str) -> subprocess.Popen[str]:
        return self.start(*prefix, *self.command("run"))

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=signals_of_a_terminal,
        )

    def command(self, name: str) -> list[str]:
        return [sys.executable, "-m", "slipway", name, "--json", *self.overrides]

    def status(self) -> dict[str, Any]:
        done = subprocess.run(
            self.command("status"), cwd=ROOT, env=self.environment, capture_output=True, text=True, check=True
        )
        return dict(json.loads(done.stdout))

    def stop(self) -> dict[str, Any]:
        """`slipway stop` takes no overrides: the same config as a folder of its own."""
        conf = self.folder / "conf"
        conf.mkdir(exist_ok=True)
        wanted = {"store.root", "deploy.root"}
        pairs = [o.split("=", 1) for o in self.overrides if o.split("=", 1)[0] in wanted]
        (conf / "base.yaml").write_text("".join(f"{k.split('.')[0]}: {{root: {v}}}\n" for k, v in pairs))
        done = subprocess.run(
            [sys.executable, "-m", "slipway", "stop", "--json", "--conf", str(conf)],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(json.loads(done.stdout))

    def training(self) -> ProcessIdentity | None:
        """The stage process that trains, once it has saved a step."""
        for file in self.folder.glob("store/work/train_cpu-*/process.json"):
            if list(file.parent.glob("checkpoints/*")) or (file.parent / "progress.jsonl").exists():
                return ProcessIdentity.model_validate_json(file.read_text())
        return None

    def mlflow_runs(self) -> dict[str, list[str]]:
        """Run name -> states of its runs, newest first."""
        client = MlflowClient(f"sqlite:///{self.folder}/mlflow.db")
        experiment = client.get_experiment_by_name("test")
        states: dict[str, list[str]] = {}
        for run in (
            client.search_runs([experiment.experiment_id], order_by=["attributes.start_time DESC"])
            if experiment
            else []
        ):
            states.setdefault(run.info.run_name, []).append(run.info.status)
        return states

    def flow_runs(self) -> list[tuple[str, str]]:
        """Name and state of every flow run, newest first."""
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs()
        ordered = sorted(runs, key=lambda run: run.start_time or run.created, reverse=True)
        return [(run.name, run.state.type.value) for run in ordered if run.state]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("stopping")
    with pytest.MonkeyPatch.context() as patch, prefect_server(pytestconfig):
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        environment = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value()), "PYTHONUNBUFFERED": "1"}
        settings = small_settings(folder, f"sqlite:///{folder}/mlflow.db", any_port(), **ENDLESS)
        overrides = [f"{key}={value}" for key, value in settings.items()]
        here = Shell(folder, environment, overrides)
        yield here
        if (training := here.training()) and is_alive(training):
            send_group(training, signal.SIGKILL)


def until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """What `condition` returns once it is true; the process's output when it ends before."""
    while not (value := condition()):
        if process.poll() is not None:
            pytest.fail(f"ended with {process.returncode}:\n{process.communicate()[0][-4000:]}")
        time.sleep(0.2)
    return value


SIGNALS = {signal.SIGTERM: 143, signal.SIGINT: 130}
if os.environ.get("SLIPWAY_SOAK_KILLS") == "all":
    SIGNALS[signal.SIGHUP] = 129  # else in tests/unit/flows alone: one handler takes all three


@pytest.mark.parametrize(("sent", "code"), SIGNALS.items(), ids=lambda value: getattr(value, "name", None))
def test_a_signal_ends_flow_and_stage_and_closes_every_record(shell: Shell, sent: signal.Signals, code: int) -> None:
    process = shell.run()
    training = until(lambda: (t := shell.training()) and is_alive(t) and t, process)
    at_work = shell.status()
    assert [(run["name"], run["state"], run["pid"]) for run in at_work["runs"]] == [(NAME, "running", process.pid)]
    assert [(stage["pid"], stage["followed"]) for stage in at_work["stages"]] == [(training.pid, True)]
    assert at_work["leftovers"] == []
    process.send_signal(sent)
    output = process.communicate()[0]
    assert process.returncode == code, output[-4000:]
    assert "Traceback (most recent call last)" not in output.partition("interrupted; run again")[2]
    assert not is_alive(training)
    assert shell.flow_runs()[0] == (NAME, "CRASHED")
    runs = shell.mlflow_runs()
    assert (runs["rows-pico"][0], runs["train"][0]) == ("KILLED", "KILLED")
    assert "RUNNING" not in {state for states in runs.values() for state in states}
    after = shell.status()
    assert (after["runs"], after["stages"]) == ([], [])
    assert [row["what"].split("-")[0] for row in after["leftovers"]] == ["unfinished train_cpu"]


def test_a_killed_run_is_named_taken_over_and_its_stage_stopped(shell: Shell) -> None:
    first = shell.run()
    training = until(lambda: (t := shell.training()) and is_alive(t) and t, first)
    first.kill()
    first.communicate()
    assert is_alive(training)
    state = shell.status()
    assert [(run["name"], run["state"]) for run in state["runs"]] == [(NAME, "killed")]
    assert [(stage["pid"], stage["followed"]) for stage in state["stages"]] == [(training.pid, False)]
    assert any(f"pid {training.pid}" in row["what"] and "slipway stop" in row["advice"] for row in state["leftovers"])
    assert shell.mlflow_runs()["train"][0] == "RUNNING"
    assert shell.flow_runs()[0] == (NAME, "RUNNING")

    second = shell.run()
    until(lambda: [stage for stage in stage_processes(shell.folder / "store") if stage.followed], second)
    now = shell.status()
    assert [stage["pid"] for stage in now["stages"]] == [training.pid]  # adopted, not started again
    assert [(run["pid"], run["state"]) for run in now["runs"]] == [(second.pid, "running")]
    assert [state for _, state in shell.flow_runs()[:2]] == ["RUNNING", "CRASHED"]
    assert shell.mlflow_runs()["rows-pico"][:2] == ["RUNNING", "KILLED"]

    second.kill()
    second.communicate()
    stopped = shell.stop()
    assert [stage["pid"] for stage in stopped["stages"]] == [training.pid]
    assert not is_alive(training)
    assert shell.status()["stages"] == []
