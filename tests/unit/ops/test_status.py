"""What `slipway status` knows and shows."""

import json
import subprocess
import sys

import psutil
import pytest

from slipway.cli.tables import show_status
from slipway.config.load import Config
from slipway.ops.status import overview
from tests.support.nemo import pico_params


@pytest.fixture
def config(tmp_path):
    return Config.model_validate(
        {"store": {"root": str(tmp_path / "store")}, "deploy": {"root": str(tmp_path / "target")}}
    )


def test_an_empty_store_has_nothing_to_say(config):
    found = overview(config)
    assert (found["training"], found["leftovers"], found["artifacts"], found["releases"]) == ([], [], {}, [])


def test_training_is_shown_with_what_is_saved_and_who_follows(config, tmp_path, capsys, monkeypatch):
    work = tmp_path / "store" / "work" / "train_nemo-0123456789abcdef"
    (work / "nemo" / "ckpt" / "epoch_0_step_9" / "model").mkdir(parents=True)
    (work / "stage.json").write_text(json.dumps({"params": pico_params().model_dump(mode="json")}))
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        record = {"name": "x", "pid": process.pid, "create_time": psutil.Process(process.pid).create_time()}
        (work / "nemo" / "process.json").write_text(json.dumps(record))
        found = overview(config)
        process.kill()
    assert [(j["name"], j["saved"], j["followed"]) for j in found["training"]] == [(f"slipway-{work.name}", 10, False)]
    assert json.loads(json.dumps(found)) == found
    monkeypatch.setenv("COLUMNS", "200")
    show_status(found)
    shown = capsys.readouterr().out
    assert "running, unfollowed" in shown and f"process {process.pid} trains unfollowed (10 steps saved)" in shown
    assert f"unfinished {work.name}" not in shown, "nobody is told to delete the folder of a job that runs"
    assert [row["what"] for row in overview(config)["leftovers"]] == [f"unfinished {work.name}"], (
        "once it ended, it is said"
    )


def test_what_gc_would_free_is_said_with_its_bytes(config, tmp_path, capsys):
    leftover = tmp_path / "store/engine/.tmp-abc-7"
    leftover.mkdir(parents=True)
    (leftover / "model.gguf").write_bytes(b"x" * 5000)
    document = overview(config)
    assert document["freeable"] == {"count": 1, "bytes": 5000}
    show_status(document)
    assert "`slipway gc` would free 5.0 kB in 1 entries" in capsys.readouterr().out
