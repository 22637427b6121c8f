from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.config.load import parse
from slipway.data.rows import Row
from slipway.errors import ConfigError, DataError, EngineError
from slipway.evaluation.statistics import wilson
from slipway.pipeline.workspace import Workspace
from slipway.stages.evaluate import PARTIAL, EvaluateParams, evaluate, params_of
from slipway.store.artifacts import Dataset, Engine, ReferenceScores
from slipway.store.store import load, seal
from slipway.system.progress import Progress
from tests.support.scripted_server import bundle


def row(at: int, label: str, ask: str | None = None) -> Row:
    """A row whose question the scripted server answers rightly, unless `ask` says otherwise."""
    messages = [
        {"role": "user", "content": ask or label},
        {"role": "assistant", "content": json.dumps({"intent": label})},
    ]
    return {"id": f"r{at}", "messages": messages, "label": label, "template": f"t{at}"}


def stage(tmp_path: Path, rows: list[Row], **params: Any) -> Path:
    """Run the stage on these rows; its output directory."""
    summary = params.pop("summary", {"label_key": "intent"})
    if not (tmp_path / "engine").exists():
        seal(bundle(tmp_path / "engine"), Engine.kind, "k", {})
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "summary.json").write_text(json.dumps(summary))
        (tmp_path / "data" / "test.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        seal(tmp_path / "data", Dataset.kind, "k", {})
        (tmp_path / "work").mkdir()
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    space = Workspace(out, tmp_path / "work", tmp_path / "cache", Progress())
    evaluate(load(Engine, tmp_path / "engine"), load(Dataset, tmp_path / "data"), EvaluateParams(**params), space)
    return out


def read_items(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "items.jsonl").read_text().split("\n") if line]


def test_every_row_is_scored_in_order_with_intervals(tmp_path: Path) -> None:
    rows = [row(0, "On"), row(1, "Off", ask="On"), row(2, "Dim", ask="say no idea"), row(3, "Dim", ask="flaky Dim")]
    out = stage(tmp_path, rows)
    items = read_items(out)
    assert [item["id"] for item in items] == ["r0", "r1", "r2", "r3"]
    assert [item["metrics"]["json_exact"] for item in items] == [1, 0, 0, 0]
    assert items[2]["answer"] == "no idea"
    assert [item["metrics"]["json_valid"] for item in items] == [1, 1, 0, 1]
    assert items[3]["retries"] == 1
    metrics = json.loads((out / "metrics.json").read_text())
    low, high = wilson(1, 4, 0.95)
    assert metrics["n"] == 4
    exact = metrics["metrics"][0]
    assert (exact["name"], exact["value"], exact["low"], exact["high"]) == ("json_exact", 0.25, low, high)
    assert (metrics["finish"], metrics["empty"], metrics["retries"]) == ({"stop": 4}, 0, 1)
    assert not (out / "speed.json").exists()


def test_reasoning_that_a_server_leaves_in_the_text_is_no_part_of_the_answer(tmp_path: Path) -> None:
    thinks, reasoned = row(0, "On", ask='say <think>\n\n</think>\n\n{"intent": "On"}'), row(1, "Off", ask="Off")
    reasoned["messages"][-1]["content"] = "<think>dark</think>" + reasoned["messages"][-1]["content"]
    items = read_items(stage(tmp_path, [thinks, reasoned]))
    assert [item["metrics"]["json_exact"] for item in items] == [1, 1]
    assert (items[0]["reasoning"], items[0]["answer"]) == ("<think>\n\n</think>", '{"intent": "On"}')


def test_an_interrupted_evaluation_goes_on(tmp_path: Path) -> None:
    rows = [row(i, f"I{i}") for i in range(6)] + [row(6, "x", ask="die")]
    with pytest.raises(EngineError, match="died"):
        stage(tmp_path, rows)
    partial = tmp_path / "work" / PARTIAL
    kept = partial.read_text()
    assert '"template": "t0"' in kept
    # the power went in the middle of a line
    partial.write_text(kept.replace('"template": "t0"', '"template": "kept"') + '{"id": "r6", "label"')
    mended = [*rows[:6], row(6, "x")]
    (tmp_path / "data" / "test.jsonl").write_text("".join(json.dumps(r) + "\n" for r in mended))
    items = read_items(stage(tmp_path, mended))
    assert [item["id"] for item in items] == [f"r{i}" for i in range(7)]
    assert all(item["metrics"]["json_exact"] for item in items)
    assert items[0]["template"] == "kept"  # not asked again


def test_a_dead_engine_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"(?s)died.*listening on"):
        stage(tmp_path, [row(0, "x", ask="die")])


def test_speed_is_measured_apart_from_quality(tmp_path: Path) -> None:
    out = stage(tmp_path, [row(i, f"I{i}") for i in range(5)], speed=True, concurrency=[1, 2], speed_requests=6)
    speed = json.loads((out / "speed.json").read_text())
    assert [(run["concurrency"], run["requests"]) for run in speed] == [(1, 6), (2, 6)]
    for run in speed:
        assert run["ttft_ms"]["p50"] > 0
        assert "p95" not in run["ttft_ms"]  # of six requests
        assert run["errors"] == 0
        assert run["tokens_per_s"] > run["requests_per_s"] > 0
        assert run["server"]["kind"] == "llama.cpp" and len(run["server"]["environment"]) == 16
    assert len(read_items(out)) == 5


def test_the_label_key_is_the_one_that_the_data_was_prepared_with(tmp_path: Path) -> None:
    items = read_items(stage(tmp_path, [row(0, "On"), row(1, "Off")], summary={"label_key": "action"}))
    assert [item["metrics"]["json_exact"] for item in items] == [1, 1]
    assert [item["metrics"]["label_accuracy"] for item in items] == [None, None]  # no answer has that key


def test_any_text_that_a_model_writes_is_stored_and_resumed_over(tmp_path: Path) -> None:
    texts = ["a\u2028b\u0085c\x0b", "half <half> pair", 'tab\tquote" back\\slash']
    rows = [row(i, "On", ask=f"escape {text}") for i, text in enumerate(texts)] + [row(3, "x", ask="die")]
    with pytest.raises(EngineError, match="died"):
        stage(tmp_path, rows)
    mended = [*rows[:3], row(3, "x")]
    (tmp_path / "data" / "test.jsonl").write_text("".join(json.dumps(r) + "\n" for r in mended))
    items = read_items(stage(tmp_path, mended))
    assert [item["answer"] for item in items[:3]] == [text.replace("<half>", "\ud800") for text in texts]
    assert (tmp_path / "out" / "items.jsonl").read_bytes().isascii()


def test_the_task_is_said_and_recorded_with_its_limit(tmp_path: Path) -> None:
    summary = {"label_key": None, "task": ["text", "seen by prepare"], "longest_answer_tokens": 100}
    out = stage(tmp_path, [row(0, "On")], summary=summary)
    metrics = json.loads((out / "metrics.json").read_text())
    assert [m["name"] for m in metrics["metrics"]] == ["chrf", "token_f1"]
    assert metrics["max_new_tokens"] == 125
    assert metrics["task"]["kind"] == "text"
    assert "evaluate.task=json|tools|label|number says otherwise" in metrics["task"]["reason"]


def test_metrics_that_are_asked_for_are_measured_in_their_order(tmp_path: Path) -> None:
    out = stage(tmp_path, [row(0, "On"), row(1, "Off", ask="On")], metrics=["exact", "rouge_l"], task="label")
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["metrics"][0]["value"] == 0.5
    assert metrics["metrics"][1]["name"] == "rouge_l"


def test_no_more_rows_are_asked_than_the_engine_has_slots(tmp_path: Path) -> None:
    """Two slots: when an item is reported, at most one other row is asked; so a kill loses no answered item."""
    reported: list[int] = []

    class Dies(Progress):
        def update(self, what: str, done: float, total: float | None, unit: str, **figures: Any) -> None:
            reported.append(int(done))
            if done == 2:
                raise KeyboardInterrupt

    stage(tmp_path, [row(i, f"I{i}") for i in range(8)])
    (tmp_path / "work" / PARTIAL).unlink()
    space = Workspace(tmp_path / "out", tmp_path / "work", tmp_path / "cache", Dies())
    params = EvaluateParams()
    with pytest.raises(KeyboardInterrupt):
        evaluate(load(Engine, tmp_path / "engine"), load(Dataset, tmp_path / "data"), params, space)
    assert reported == [1, 2]
    assert len((tmp_path / "work" / PARTIAL).read_text().split("\n")) == 3


def test_params_hold_what_files_say_and_the_key_not_where_they_lie(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    judge = {"url": "http://a:1/v1", "model": "m"}

    def params(**evaluate_keys: Any) -> EvaluateParams:
        return params_of(parse({"evaluate": evaluate_keys}, "a test"), speed=False)

    one = params(json_schema=str(schema), judge=judge, metrics=["judge"])
    assert one.schema_document == {"type": "object"}
    moved = tmp_path / "moved.json"
    schema.rename(moved)
    other = params(json_schema=str(moved), judge={**judge, "url": "http://b:2/v1"}, metrics=["judge"])
    assert one.key_document() == other.key_document()
    model = params(json_schema=str(moved), judge={**judge, "model": "n"}, metrics=["judge"])
    moved.write_text('{"type": "array"}')
    schema_changed = params(json_schema=str(moved), judge=judge, metrics=["judge"])
    assert len({json.dumps(p.key_document(), sort_keys=True) for p in (one, model, schema_changed)}) == 3
    with pytest.raises(ConfigError, match=r"evaluate\.judge: null"):
        params(metrics=["judge"])
    with pytest.raises(ConfigError, match="did you mean chrf"):
        params(metrics=["chrff"])


def test_data_that_does_not_say_its_label_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no label_key"):
        stage(tmp_path, [row(0, "On")], summary={"labels": 1})


def streamed_scores(tmp_path: Path, rows: list[Row]) -> ReferenceScores:
    """Scores of these rows, as the stage `reference` leaves them."""
    folder = tmp_path / "streamed"
    folder.mkdir()
    figures = {"tokens": 2, "reference": -1.0, "other": -1.4, "kl": 0.2, "agreement": 0.5}
    (folder / "scores.jsonl").write_text("".join(json.dumps({"id": r["id"], **figures}) + "\n" for r in rows))
    seal(folder, ReferenceScores.kind, "k", {})
    return load(ReferenceScores, folder)


def test_the_streamed_reference_stands_beside_the_answers(tmp_path: Path) -> None:
    rows = [row(0, "On"), row(1, "Off", ask="On")]
    stage(tmp_path, rows)
    space = Workspace(tmp_path / "out", tmp_path / "work", tmp_path / "cache", Progress())
    engine, data = load(Engine, tmp_path / "engine"), load(Dataset, tmp_path / "data")
    evaluate(engine, data, EvaluateParams(role="candidate"), space, streamed_scores(tmp_path, rows))
    first, second = (item["metrics"] for item in read_items(tmp_path / "out"))
    assert (first["json_exact"], second["json_exact"]) == (1, 0)
    assert (first["log_likelihood"], first["kl_from_merge"], first["token_agreement"]) == (-0.7, 0.2, 0.5)
    names = [entry["name"] for entry in json.loads((tmp_path / "out/metrics.json").read_text())["metrics"]]
    assert names[0] == "json_exact" and names[-3:] == ["log_likelihood", "kl_from_merge", "token_agreement"]


def test_a_model_that_is_not_served_has_what_was_streamed(tmp_path: Path) -> None:
    rows = [row(0, "On"), row(1, "Off")]
    stage(tmp_path, rows)
    space = Workspace(tmp_path / "out", tmp_path / "work", tmp_path / "cache", Progress())
    scores = streamed_scores(tmp_path, rows)
    evaluate(None, load(Dataset, tmp_path / "data"), EvaluateParams(role="merged"), space, scores)
    assert [item["metrics"] for item in read_items(tmp_path / "out")] == [{"log_likelihood": -0.5}] * 2
    assert json.loads((tmp_path / "out/summary.json").read_text())["log_likelihood"] == -0.5


def test_how_the_merge_is_measured_is_in_the_inputs_and_not_in_the_params_of_the_key() -> None:
    keys = [EvaluateParams(reference=way, reference_memory_gb=3).key_document() for way in ("served", "both")]
    assert keys[0] == keys[1] and not [name for name in keys[0] if name.startswith("reference")]
