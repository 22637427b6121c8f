"""The rollback flow told to end at one of its steps: exit 143, and one release that serves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

from slipway.deployment.promotion import promote
from slipway.deployment.state import status, stop
from slipway.store.store import Store
from tests.support.prefect_server import prefect_server
from tests.support.target import JSON_ANSWER, make_data, make_engine, make_verdict, running, target_params
from tests.support.world import ROOT

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Prefect's own, about its dependencies
]
# The flow as the command starts it, with a SIGTERM to itself right after the step that its first argument names.
PROGRAM = """
import os, runpy, signal, sys
import tasks.promote
shown, step = tasks.promote._note, sys.argv.pop(1)
def note(run, line):
    say = shown(run, line)
    def say_and_end(text):
        say(text)
        if text.startswith(step):
            os.kill(os.getpid(), signal.SIGTERM)
    return say_and_end
tasks.promote._note = note
runpy.run_module("flows.promote", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def environment(pytestconfig: pytest.Config) -> Iterator[dict[str, str]]:
    with prefect_server(pytestconfig):
        yield {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value()), "MLFLOW_DISABLE_TELEMETRY": "true"}


@pytest.mark.parametrize(("step", "serves"), [("switched", "0002"), ("recorded", "0001")])
def test_a_rollback_told_to_end_is_undone_before_its_record_and_finished_after_it(
    tmp_path: Path, environment: dict[str, str], step: str, serves: str
) -> None:
    """Its output is a pipe, which ends with the flow although an engine serves on."""
    params, store = target_params(str(tmp_path / "target")), Store(tmp_path / "store")
    data = make_data(store)
    for version in (1, 2):
        engine = make_engine(store, {"answer": JSON_ANSWER, "v": version})
        promote(engine, make_verdict(store, engine), data, {}, params, model="m")
    first, last = params.ports
    settings = [
        f"store.root={store.root}",
        f"deploy.root={params.root}",
        f"deploy.ports=[{first},{last}]",
        "deploy.proxy.kind=none",
    ]
    settings += [f"tracking.uri=sqlite:///{tmp_path}/ml.db", "tracking.experiment=test"]
    command = [sys.executable, "-c", PROGRAM, step, "rollback", "--json"]
    command += [part for setting in settings for part in ("--set", setting)]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 143, done.stderr[-4000:]
        now = status(params)
        assert now.release is not None
        assert now.healthy
        assert now.release.name.startswith(f"{serves}-")
        assert len(running(params)) == 1
        with get_client(sync_client=True) as client:
            newest = max(client.read_flow_runs(), key=lambda run: run.created)
        assert newest.name == "rollback -> local"
        assert newest.state is not None
        assert newest.state.type.value == "CRASHED"
    finally:
        stop(params)
