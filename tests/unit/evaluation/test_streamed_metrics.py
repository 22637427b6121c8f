"""What the streamed reference measured, as metrics of the items of either model."""

import json

import pytest

from slipway.evaluation.metric import SHARE, entries
from slipway.evaluation.streamed_metrics import AGREEMENT, add_streamed, unanswered
from slipway.store.artifacts import ReferenceScores
from slipway.store.store import load, seal

ROWS = [{"id": f"r{i}", "label": "a", "template": f"t{i}", "messages": []} for i in range(3)]
LINES = [
    {"id": "r0", "tokens": 4, "reference": -2.0, "other": -3.0, "kl": 0.1, "agreement": 0.75},
    {"id": "r1", "tokens": 1, "reference": -1.0, "other": -1.5, "kl": 0.3, "agreement": 1.0},
]


def scores(folder, lines=LINES):
    folder.mkdir()
    (folder / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    seal(folder, ReferenceScores.kind, "k", {})
    return load(ReferenceScores, folder)


def test_the_merge_has_its_log_likelihood_a_token(tmp_path):
    items, metrics = unanswered(ROWS, 0.95)
    add_streamed(items, metrics, scores(tmp_path / "s"), "merged")
    assert [item["metrics"] for item in items] == [{"log_likelihood": v} for v in (-0.5, -1.0, None)]
    (entry,) = metrics["metrics"]
    assert (entry["value"], entry["n"], entry["unit"], entry["direction"]) == (-0.75, 2, "nats/token", "higher")
    assert entry["low"] < -0.75 < entry["high"]


def test_the_quantized_model_has_its_distance_from_the_merge_too(tmp_path):
    items = [{"id": row["id"], "answer": "x", "metrics": {"exact": 1}} for row in ROWS]
    metrics = {"metrics": [{"name": "exact"}], "confidence": 0.95}
    add_streamed(items, metrics, scores(tmp_path / "s"), "candidate")
    assert items[0]["metrics"] == {"exact": 1, "log_likelihood": -0.75, "kl_from_merge": 0.1, "token_agreement": 0.75}
    assert list(entries(metrics)) == ["exact", "log_likelihood", "kl_from_merge", "token_agreement"]
    assert entries(metrics)["kl_from_merge"]["value"] == pytest.approx(0.2)
    assert AGREEMENT.unit == SHARE


def test_a_refused_model_adds_nothing(tmp_path):
    items, metrics = unanswered(ROWS, 0.95)
    add_streamed(items, metrics, scores(tmp_path / "s", []), "merged")
    assert metrics["metrics"] == [] and [item["metrics"] for item in items] == [{}, {}, {}]


def test_what_is_not_served_has_no_answers():
    items, metrics = unanswered(ROWS, 0.9)
    assert not any("answer" in item for item in items)
    assert (metrics["n"], metrics["answer_tokens"], metrics["finish"], metrics["confidence"]) == (3, None, {}, 0.9)
