"""What `slipway status` knows and shows."""

import json
import os
import platform
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from slipway.agent.agent import Agent
from slipway.cli.status_tables import show_status
from slipway.config.load import Config
from slipway.deployment.releases import Release
from slipway.deployment.state import Status
from slipway.ops.gc import collect
from slipway.ops.status import _clients, _left_on_target, overview
from slipway.runners.lease import Priority, Wish, lease_folder, leased
from slipway.system.locks import lock_open_file, locked
from tests.support.nemo import pico_params


@pytest.fixture
def config(tmp_path):
    return Config.model_validate(
        {
            "store": {"root": str(tmp_path / "store"), "cache": str(tmp_path / "cache")},
            "deploy": {"root": str(tmp_path / "target")},
        }
    )


def test_an_empty_store_has_nothing_to_say(config):
    document = overview(config)
    assert (document["training"], document["leftovers"], document["artifacts"], document["releases"]) == (
        [],
        [],
        {},
        [],
    )


def test_training_is_shown_with_what_is_saved_and_who_follows(config, tmp_path, capsys, monkeypatch):
    work = tmp_path / "store" / "work" / "train_nemo-0123456789abcdef"
    (work / "nemo" / "ckpt" / "epoch_0_step_9" / "model").mkdir(parents=True)
    (work / "stage.json").write_text(json.dumps({"params": pico_params().model_dump(mode="json")}))
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        record = {"name": "x", "pid": process.pid, "create_time": psutil.Process(process.pid).create_time()}
        (work / "nemo" / "process.json").write_text(json.dumps(record))
        document = overview(config)
        process.kill()
    assert [(j["name"], j["saved"], j["followed"]) for j in document["training"]] == [
        (f"slipway-{work.name}", 10, False)
    ]
    assert json.loads(json.dumps(document)) == document
    monkeypatch.setenv("COLUMNS", "200")
    show_status(document)
    shown = capsys.readouterr().out
    assert "running, unfollowed" in shown and f"process {process.pid} trains unfollowed (10 steps saved)" in shown
    assert f"unfinished {work.name}" not in shown, "nobody is told to delete the folder of a job that runs"
    leftovers = overview(config)["leftovers"]
    assert [row["what"] for row in leftovers] == [f"unfinished {work.name}"], "once it ended, it is listed"
    assert leftovers[0]["advice"] == "the newest unfinished training: run again to resume"


def test_unfinished_work_is_removed_by_gc_and_by_hand_only_where_gc_does_not_know_it(config, tmp_path):
    """The advice is what `slipway gc` does with the folder."""
    for name in ("merge-0123456789abcdef", "quantize-0123456789abcdef", "my work"):
        (tmp_path / "store/work" / name).mkdir(parents=True)
        (tmp_path / "store/work" / name / "stage.json").write_text("{}")
    with locked(tmp_path / "store/work/quantize-0123456789abcdef.lock", 0.0, "stage quantize"):
        advice = {row["what"]: row["advice"] for row in overview(config)["leftovers"]}
        assert {"merge-0123456789abcdef"} == {item.name for item in collect(config) if item.what == "work"}
    assert advice == {
        "unfinished merge-0123456789abcdef": "run again to resume, or `slipway gc --yes` removes it",
        "unfinished quantize-0123456789abcdef": "a stage works in it",
        "unfinished my work": f"`slipway gc` does not know this folder; delete {tmp_path / 'store/work/my work'} when "
        "nobody needs it",
    }


def test_what_gc_would_free_is_said_with_its_bytes(config, tmp_path, capsys):
    leftover = tmp_path / "store/engine/.tmp-abc-7"
    leftover.mkdir(parents=True)
    (leftover / "model.gguf").write_bytes(b"x" * 5000)
    document = overview(config)
    assert document["freeable"] == {"count": 1, "bytes": 5000}
    show_status(document)
    assert "`slipway gc` would free 5.0 kB in 1 entries" in capsys.readouterr().out


def test_an_engine_whose_release_was_moved_away_is_named(config, tmp_path):
    """The target's directory was moved while it served: its process still runs out of the old path."""
    model = tmp_path / "target/releases/0003-0123abcd/engine/model.gguf"
    sleeper = [sys.executable, "-c", "import sys; sys.stdin.read()", str(model)]
    with subprocess.Popen(sleeper, stdin=subprocess.PIPE, start_new_session=True) as engine:
        try:
            (row,) = overview(config)["leftovers"]
        finally:
            engine.kill()
    assert row == {
        "what": "engine of release 0003-0123abcd, whose directory is gone",
        "advice": "`slipway stop` ends it",
    }
    assert overview(config)["leftovers"] == []


@pytest.mark.parametrize(
    ("switching", "sentence"),
    [
        ({"address": None, "note": "no proxy: the port changes"}, "no proxy: the port changes"),
        ({"address": "http://127.0.0.1:8090/v1", "note": ""}, "clients use http://127.0.0.1:8090/v1"),
        (
            {"address": "http://h:1/v1", "note": "HAProxy does not run"},
            "clients use http://h:1/v1; HAProxy does not run",
        ),
    ],
)
def test_how_clients_reach_the_target_is_said(switching, sentence):
    record = {"path": "/t", "model": "m", "created": "", "digests": {"engine": "e"}, "outcome": "pass"}
    release = Release.model_validate({"name": "0001-aaaaaaaa", **record})
    now = Status(None, None, False, None, [release], document={"switching": switching, "lock": None})
    assert _clients(now) == sentence


def test_who_changes_the_target_is_shown_and_what_was_interrupted_is_left_over(config, capsys):
    agent = Agent(Path(config.deploy.root))
    agent.call("begin", {"action": "promote", "engine": "a" * 64, "owner": "ann@laptop"})
    document = overview(config)
    assert document["busy"].startswith("promotion of aaaaaaaaaaaa by ann@laptop, for ")
    assert document["leftovers"] == []
    show_status(document)
    assert "at work: promotion of aaaaaaaaaaaa by ann@laptop" in capsys.readouterr().out
    agent.lock.release()  # as the kernel does when its process dies
    document = overview(config)
    assert document["busy"] == ""
    (row,) = document["leftovers"]
    assert row["what"] == "promote of 0001-aaaaaaaa by ann@laptop was interrupted"
    Agent(Path(config.deploy.root)).call("boot", {})
    assert overview(config)["leftovers"] == []


def test_who_works_on_this_machine_is_shown_and_who_waits_in_their_order(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SLIPWAY_LEASE", raising=False)
    assert overview(config)["machine"]["holder"] is None
    folder = lease_folder(tmp_path / "cache")
    with leased(folder, Wish("train of [bold]x", Priority.TRAINING)):
        with ExitStack() as waits:
            for name in ("3-00000000000000000007-4711", "0-00000000000000000008-4712"):
                mark = waits.enter_context((folder / "waiting" / name).open("w"))
                mark.write(f"wish {name[0]}")
                mark.flush()
                lock_open_file(mark)
            machine = overview(config)["machine"]
            show_status(overview(config))
        shown = capsys.readouterr().out
        assert [(one["name"], one["priority"], one["pid"]) for one in machine["waiting"]] == [
            ("wish 0", "serving", 4712),
            ("wish 3", "training", 4711),
        ]
        held = machine["holder"]
        assert (held["name"], held["priority"], held["pid"]) == ("train of [bold]x", "training", os.getpid())
        assert held["followed"] and "train of [bold]x" in shown
        assert shown.index("train of") < shown.index("wish 0") < shown.index("wish 3")
        assert overview(config)["machine"]["waiting"] == [], "their locks ended"
    machine = overview(config)["machine"]
    assert (machine["holder"], machine["waiting"], machine["problem"]) == (None, [], "")


def test_a_lease_that_cannot_be_read_is_said_and_the_rest_is_shown(config, tmp_path, capsys, monkeypatch):
    (tmp_path / "lease" / "holder.lock").mkdir(parents=True)
    monkeypatch.setenv("SLIPWAY_LEASE", str(tmp_path / "lease"))
    document = overview(config)
    assert "Is a directory" in document["machine"]["problem"]
    show_status(document)
    assert f"who works on {platform.node()} cannot be read" in capsys.readouterr().out


def test_what_the_serving_release_lacks_in_its_cluster_is_left_over():
    gone = {"missing": ["Deployment chat-0001-aaaaaaaa"], "pointer": "0001-aaaaaaaa"}
    document = {"lock": None, "lost": [], "damaged": [], "interrupted": None, **gone}
    (row,) = _left_on_target(Status(None, None, False, None, [], document=document))
    assert row == {
        "what": "Deployment chat-0001-aaaaaaaa of 0001-aaaaaaaa, which serves, is gone from the cluster",
        "advice": "`slipway start` puts it back",
    }
