"""Metrics of the streamed reference: what a model thinks of the reference answers, beside what it answers itself.

The stage `reference` scores the merge and the quantized model together (`calibration.answer_scores` has the formulas);
here its figures become metrics of the items of either model. KL and agreement compare the two, so the quantized model
alone has them. An item's value is a mean over its answer's tokens: long and short answers weigh alike in the metric.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from slipway.data.rows import Row
from slipway.evaluation.metric import Item, Metric, aggregate
from slipway.store.artifacts import ReferenceScores

Role = Literal["merged", "candidate"]
LIKELIHOOD = Metric("log_likelihood", "log-likelihood of the reference answer", "real", "higher", "nats/token")
DIVERGENCE = Metric("kl_from_merge", "KL from the merge", "real", "lower", "nats/token")
AGREEMENT = Metric("token_agreement", "tokens chosen as the merge", "real", "higher", "share")
STREAMED = (LIKELIHOOD, DIVERGENCE, AGREEMENT)
_OF: dict[Role, tuple[Metric, ...]] = {"merged": (LIKELIHOOD,), "candidate": STREAMED}


def unanswered(rows: Sequence[Row], confidence: float) -> tuple[list[Item], dict[str, Any]]:
    """Items and `metrics.json` of a model that is not served: nothing is generated, nothing measured yet."""
    items = [
        {"id": row["id"], "label": row["label"], "template": row["template"], "metrics": dict[str, Any]()}
        for row in rows
    ]
    none: dict[str, Any] = {"finish": {}, "answer_tokens": None, "empty": 0, "long_answers": 0, "repeated_8grams": None}
    return items, {"n": len(items), "metrics": [], "confidence": confidence, **none, "retries": 0}


def add_streamed(items: Sequence[Item], metrics: dict[str, Any], scores: ReferenceScores, role: Role) -> None:
    """Add to items and `metrics.json`, in place, what the stage `reference` measured of the model in this role; nothing
    where it refused the model. An item that was not scored has null."""
    by_id = {one["id"]: _values(one, role) for one in read_scores(scores)}
    if not by_id:
        return
    declared = _OF[role]
    for item in items:
        item["metrics"] |= by_id.get(item["id"], dict.fromkeys(metric.name for metric in declared))
    metrics["metrics"] += [aggregate(metric, items, metrics["confidence"]) for metric in declared]


def read_scores(scores: ReferenceScores) -> list[dict[str, Any]]:
    """The lines of `scores.jsonl`: `id`, `tokens`, log-likelihoods `reference` and `other` (sums, nats), `kl`,
    `agreement`."""
    with (scores.path / "scores.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _values(score: dict[str, Any], role: Role) -> dict[str, float]:
    if role == "merged":
        return {LIKELIHOOD.name: score["reference"] / score["tokens"]}
    return {
        LIKELIHOOD.name: score["other"] / score["tokens"],
        DIVERGENCE.name: score["kl"],
        AGREEMENT.name: score["agreement"],
    }
