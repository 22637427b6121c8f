"""A stage in its own process: made or reused with the reason, and errors that cross the process border whole."""

import json
import os
import signal
from contextlib import suppress

import pytest

from slipway.config.model import ModelConfig
from slipway.errors import CheckpointError, StageKilledError
from slipway.pipeline.ensure import ensure
from slipway.pipeline.stage import StageCall
from slipway.runners.local import LocalRunner
from slipway.store.code_version import code_digest
from slipway.store.store import Store
from tests.support.pico import pico_model


def fetch(directory, tmp_path, runner=None):
    params = ModelConfig(source="directory", directory=str(directory), name="pico")
    store = Store(tmp_path / "store")
    return ensure(
        StageCall("fetch", {}, params), store, tmp_path / "cache", runner or LocalRunner(), lambda event: None
    )


def test_a_stage_runs_in_its_own_process_then_is_reused_with_the_reason(tmp_path):
    model = pico_model(tmp_path / "model")
    made = fetch(model, tmp_path)
    assert not made.reused and made.peak_rss > 1e6 and made.seconds > 0
    assert list((tmp_path / "store/work").iterdir()) == [], "no work folder and no lock stays"
    again = fetch(model, tmp_path)
    assert list((tmp_path / "store/work").iterdir()) == []
    assert again.reused and "same inputs, params and code" in again.why
    assert again.artifact == made.artifact
    provenance = made.artifact.manifest["provenance"]
    assert provenance["code"] == code_digest("stages.fetch")
    assert provenance["key_format"] == 2


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

    with pytest.raises(StageKilledError, match=r"stage fetch: signal 9 after .*killed for memory"):
        fetch(pico_model(tmp_path / "model"), tmp_path, Killed())
