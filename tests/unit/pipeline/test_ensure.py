"""Jobs: keys that change with what matters, reuse that says why, and errors that cross the process border whole."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from slipway.config.model import ModelConfig
from slipway.errors import CheckpointError, ConfigError, SlipwayError, StageError
from slipway.pipeline.ensure import ensure
from slipway.pipeline.execute import execute
from slipway.pipeline.stage import stage_spec
from slipway.runners.local import LocalRunner
from slipway.store.artifacts import Checkpoint
from slipway.store.key import code_digest, stage_key
from slipway.store.store import Store
from tests.support.pico import pico_model


def fetch(directory, tmp_path, **more):
    params = ModelConfig(source="directory", directory=str(directory), name="pico")
    return ensure(
        "fetch", {}, params, output=Checkpoint, store=Store(tmp_path / "store"), cache=tmp_path / "cache", runner=LocalRunner(),
        on_event=lambda event: None, **more,
    )  # fmt: skip


def test_a_stage_runs_in_its_own_process_then_is_reused_with_the_reason(tmp_path):
    model = pico_model(tmp_path / "model")
    made = fetch(model, tmp_path)
    assert not made.reused and made.peak_rss > 1e6 and made.seconds > 0
    again = fetch(model, tmp_path)
    assert again.reused and "same inputs, params and code" in again.why
    assert again.artifact == made.artifact
    assert made.artifact.manifest["provenance"]["code"] == code_digest("stages.fetch")


def test_a_stage_error_is_raised_here_as_it_was_there(tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        fetch(tmp_path / "nowhere", tmp_path)
    assert not list((tmp_path / "store" / "checkpoint").glob("*")), "nothing half-written"


def test_a_killed_stage_is_an_error_that_names_the_signal(tmp_path):
    class Killed(LocalRunner):
        def poll(self, job):
            with suppress(ProcessLookupError):
                os.kill(json.loads((job.work / "process.json").read_text())["pid"], signal.SIGKILL)
            return super().poll(job)

    params = ModelConfig(source="directory", directory=str(pico_model(tmp_path / "model")))
    with pytest.raises(StageError, match=r"stage fetch: signal 9 after .*killed for memory"):
        ensure(
            "fetch",
            {},
            params,
            output=Checkpoint,
            store=Store(tmp_path / "s"),
            cache=tmp_path,
            runner=Killed(),
            on_event=lambda e: None,
        )


def test_the_key_covers_inputs_params_and_extra():
    params = ModelConfig()
    one = Checkpoint(uri="/a", digest="d1")
    key = stage_key("merge", {"base": one}, params, {})
    assert key == stage_key("merge", {"base": Checkpoint(uri="/elsewhere", digest="d1")}, params, {})
    others = [
        stage_key("merge", {"base": Checkpoint(uri="/a", digest="d2")}, params, {}),
        stage_key("merge", {"base": one}, ModelConfig(name="x"), {}),
        stage_key("merge", {"base": one}, params, {"cpu": "y"}),
        stage_key("quantize", {"base": one}, params, {}),
    ]
    assert len({key, *others}) == 5


def test_every_stage_follows_the_convention():
    from slipway.pipeline.stage import STAGES

    for name in STAGES:
        assert stage_spec(name).output.kind


def test_an_unknown_stage_and_a_wrong_job_file_are_named(tmp_path):
    with pytest.raises(ConfigError, match="stage: bake; expected one of fetch"):
        stage_spec("bake")
    with pytest.raises(ConfigError, match=r"expected an existing job\.json"):
        execute("merge", tmp_path / "job.json")
    (tmp_path / "job.json").write_text(json.dumps({"stage": "train"}))
    with pytest.raises(ConfigError, match="for stage train; expected stage merge"):
        execute("merge", tmp_path / "job.json")


def test_errors_survive_json():
    err = CheckpointError("a", 3, "b", "c")
    back = SlipwayError.from_json(json.loads(json.dumps(err.to_json())))
    assert type(back) is CheckpointError and str(back) == str(err) and back.exit_code == 2


def test_the_cli_prints_one_error_and_the_documented_exit_code():
    done = subprocess.run(
        [sys.executable, "-m", "slipway", "config", "train.lrr=1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "train.lrr" in done.stderr and "did you mean lr?" in done.stderr and "Traceback" not in done.stderr
    as_json = subprocess.run(
        [sys.executable, "-m", "slipway", "config", "train.lrr=1", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(as_json.stdout)["error"]["type"] == "ConfigError"
