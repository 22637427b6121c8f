"""`slipway agent`: conversations, tasks and their evaluation, against a server whose answers are given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.errors import ConfigError, DataError
from tests.support.commands import row, rows_file
from tests.support.scripted_server import scripted

CONF = str(Path(__file__).resolve().parents[3] / "conf")


def invoke(*words: object) -> Any:
    return CliRunner().invoke(app, [*map(str, words), "--conf", CONF], catch_exceptions=False)


def test_a_conversation_shows_what_was_done_and_what_changed() -> None:
    with scripted() as (url, _):
        done = invoke("agent", "run", "cancel the kettle", "say no", "--url", url, "--model", "m", "--trace")
        document = json.loads(invoke("agent", "run", "HassMediaNext", "--url", url, "--model", "m", "--json").stdout)
    assert done.exit_code == 0
    assert "no tool 'cancel the kettle'" in done.stdout
    assert done.stdout.count("nothing changed") == 2
    turn = document["turns"][0]
    assert turn["request"] == "HassMediaNext"
    assert "hassmedianext" in turn["steps"][0]["refused"]
    assert turn["changes"] == {}


def test_tasks_are_made_and_evaluated(tmp_path: Path) -> None:
    rows = [row("next", "HassMediaNext"), row("pause", "HassMediaPause"), row("stop", "HassTurnOn", name="radio")]
    data, file, out = rows_file(tmp_path / "test.jsonl", rows), tmp_path / "tasks.jsonl", tmp_path / "out"
    made = invoke("agent", "tasks", "--data", data, "--out", file, "--set", "agent.tasks=20", "--json")
    assert json.loads(made.stdout)["tasks"] == len(file.read_text().splitlines()) >= 10
    with scripted() as (url, _):
        done = invoke("agent", "eval", "--tasks", file, "--url", url, "--model", "m", "--out", out, "--json")
        table = invoke("agent", "eval", "--tasks", file, "--url", url, "--model", "m")
    document = json.loads(done.stdout)
    values = {entry["name"]: entry["value"] for entry in document["metrics"]}
    assert (done.exit_code, values["agent_acted_unasked"]) == (0, 0.0)
    assert values["agent_single"] == 0.0, "this server answers with intents that are none"
    assert sorted(p.name for p in out.iterdir()) == ["items.jsonl", "metrics.json", "traces.jsonl"]
    assert "changed what must stay" in table.stdout


def test_a_change_of_what_must_stay_ends_with_exit_code_3(tmp_path: Path) -> None:
    answer = json.dumps({"intent": "HassTurnOn", "name": "movie night"})
    task = {"id": "a", "kind": "quiet", "turns": [{"request": f"say {answer}"}]}
    (tmp_path / "t.jsonl").write_text(json.dumps(task) + "\n")
    home = tmp_path / "h.yaml"
    words = "[say, intent, hassturnon, name]"
    home.write_text(f"here: den\nfloors: {{a: [den]}}\nplayer: tv\nplaces: [oslo]\nwords: {words}\n"
                    "devices: {tv: media_player, movie night: scene}\n")  # fmt: skip
    with scripted() as (url, _):
        done = invoke("agent", "eval", "--tasks", tmp_path / "t.jsonl", "--url", url, "--model", "m", "--json",
                      "--set", f"agent.home={home}", "--set", "agent.split=false")  # fmt: skip
    assert done.exit_code == 3
    assert json.loads(done.stdout)["kinds"][0]["acted_unasked"] == 1


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["run"], "no request"),
        (["eval"], "--tasks: not given"),
        (["eval", "dim the den", "--tasks", "x"], "dim the den"),
        (["tasks"], "--data: not given"),
        (["run", "x", "--set", "deploy.root=/nowhere"], "nothing serves at /nowhere"),
        (["run", "x", "--key-variable", "NO_SUCH_KEY", "--url", "http://127.0.0.1:1"], "NO_SUCH_KEY"),
        (["run", "x", "--url", "ftp://x"], "ftp://x"),
        (["run", "x", "--set", "agent.kind=off", "--url", "http://127.0.0.1:1", "--model", "m"], "agent.kind: off"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(words: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        invoke("agent", *words)


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    with scripted() as (url, _), pytest.raises(DataError, match="No such file"):
        invoke("agent", "eval", "--tasks", tmp_path / "none", "--url", url, "--model", "m")
