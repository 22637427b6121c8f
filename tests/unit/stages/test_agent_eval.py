"""The stage that evaluates an agent, on a server whose answers are given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.agents.intents import tools_digest
from slipway.config.load import parse
from slipway.errors import ConfigError, DataError
from slipway.evaluation.metric import read_items, read_metrics
from slipway.pipeline.workspace import Workspace
from slipway.stages.agent_eval import PARTIAL, agent_eval, key_extra, params_of
from slipway.store.artifacts import Dataset, Engine, Evaluation
from slipway.store.store import load, seal
from slipway.system.progress import Progress
from tests.support.commands import row, rows_file
from tests.support.scripted_server import bundle

# The server answers "say TEXT" with TEXT, and the words of an answer stand in the request with it
ANSWER = json.dumps({"intent": "HassTurnOn", "name": "movie night"}, separators=(",", ":"))
ROWS = [row(f"say {ANSWER}", "HassTurnOn", name="movie night"), row("pause", "HassMediaPause")]


def stage(tmp_path: Path, rows: list[dict[str, Any]], **agent: Any) -> Evaluation:
    if not (tmp_path / "engine").exists():
        seal(bundle(tmp_path / "engine"), Engine.kind, "k", {})
        (tmp_path / "data").mkdir()
        rows_file(tmp_path / "data/test.jsonl", rows)
        seal(tmp_path / "data", Dataset.kind, "k", {})
        for folder in ("out", "work"):
            (tmp_path / folder).mkdir()
        home = {"here": "den", "floors": {"a": ["den", "hall"]}, "player": "tv", "places": ["oslo"]}
        home |= {"devices": {"tv": "media_player", "movie night": "scene"}, "words": ["say", "intent", "hassturnon"]}
        (tmp_path / "home.yaml").write_text(json.dumps({**home, "words": [*home["words"], "name"]}))
    section = {"kind": "intents", "home": str(tmp_path / "home.yaml"), "split": False, "tasks": 20, **agent}
    params = params_of(parse({"agent": section}, "a test"))
    space = Workspace(tmp_path / "out", tmp_path / "work", tmp_path / "cache", Progress())
    agent_eval(load(Engine, tmp_path / "engine"), load(Dataset, tmp_path / "data"), params, space)
    seal(tmp_path / "out", Evaluation.kind, "k", {})
    return load(Evaluation, tmp_path / "out")


def test_items_traces_and_metrics_are_sealed(tmp_path: Path) -> None:
    made = stage(tmp_path, ROWS)
    items = {item["id"]: item["metrics"] for item in read_items(made)}
    right, wrong = f"single.HassTurnOn.say {ANSWER}", "single.HassMediaPause.pause"
    assert (items[right]["agent_success"], items[right]["agent_exact"]) == (1.0, 1.0)
    assert items[wrong]["agent_success"] == 0.0
    assert next(iter(read_metrics(made)["metrics"]))["name"] == "agent_success"
    assert made.summary["tasks"] == len(items) == len((made.path / "tasks.jsonl").read_text().splitlines())
    traces = [json.loads(line) for line in (made.path / "traces.jsonl").read_text().splitlines()]
    assert [trace["id"] for trace in traces] == list(items)
    assert "there is no tool" in json.dumps(traces)
    assert (tmp_path / "work" / PARTIAL).exists()


def test_tasks_of_a_file_replace_those_of_the_rows(tmp_path: Path) -> None:
    task = {"id": "mine", "kind": "quiet", "turns": [{"request": f"say {ANSWER}"}]}
    (tmp_path / "t.jsonl").write_text(json.dumps(task) + "\n")
    (item,) = read_items(stage(tmp_path, ROWS, tasks_file=str(tmp_path / "t.jsonl")))
    assert (item["id"], item["metrics"]["agent_acted_unasked"]) == ("mine", 1.0)


def test_the_key_knows_what_files_hold_and_the_tools(tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    for file in (one, two):
        file.write_text('{"id": "a", "kind": "k", "turns": [{"request": "x"}]}\n')
    with_file = [params_of(parse({"agent": {"kind": "intents", "tasks_file": str(f)}}, "t")) for f in (one, two)]
    assert with_file[0].key_document() == with_file[1].key_document()
    plain = params_of(parse({"agent": {"kind": "intents"}}, "t"))
    assert plain.key_document() != with_file[0].key_document()
    assert plain.key_document() != params_of(parse({"agent": {"kind": "intents", "repairs": 1}}, "t")).key_document()
    assert key_extra(plain) == {"tools": tools_digest()}
    assert "pydantic-ai-slim 2" in key_extra(params_of(parse({"agent": {"kind": "tools"}}, "t")))["framework"]


def test_rows_of_another_task_and_servers_without_tools_are_named(tmp_path: Path) -> None:
    other = row("x", "HassTurnOn", name="tv")
    other["messages"][-1]["content"] = "Paris"
    with pytest.raises(DataError, match="row HassTurnOn"):
        stage(tmp_path, [other])
    with pytest.raises(ConfigError, match="a server that passes tools"):
        stage(tmp_path, ROWS, kind="tools", tasks_file=None if rows_file(tmp_path / "data/test.jsonl", ROWS) else "")
