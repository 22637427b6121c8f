"""What is measured, as data: the declaration of a metric, its value over items, and the files that carry both.

`items.jsonl` holds per test item `"metrics": {name: value or null}` (null: the metric does not apply to this item);
`metrics.json` holds `"metrics": [declaration with value, low, high, n, ...]`, the first one being the task's primary
metric. Gate, tables, cards, plots and trackers read these two files; a metric's name stands nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, Literal

from slipway.errors import DataError
from slipway.evaluation.clusters import mean_interval, share_interval
from slipway.store.artifacts import Evaluation

Item = dict[str, Any]
CUT = "length"  # OpenAI's finish_reason of an answer that met max_tokens
PRIMARY = "primary"  # in a gate's rule: the first metric of the evaluation, whatever the task
SHARE = "share"  # the unit of values from 0 to 1, shown as percent


@dataclass(frozen=True)
class Metric:
    """One metric of a model's answers.

    `kind`: `binary` has values 0 and 1 per item, `real` any finite number. `direction`: which way is better. `unit`:
    `share` for values from 0 to 1 (shown as percent), else a word such as `nats/token` or `tokens`.
    """

    name: str
    title: str
    kind: Literal["binary", "real"] = "binary"
    direction: Literal["higher", "lower"] = "higher"
    unit: str = SHARE


def metric_of(entry: Mapping[str, Any]) -> Metric:
    """The declaration in one entry of `metrics.json`."""
    return Metric(**{name: entry[name] for name in Metric.__dataclass_fields__})


def aggregate(metric: Metric, items: Sequence[Item], confidence: float) -> dict[str, Any]:
    """The metric's entry in `metrics.json`: its mean over the items that have a value, with a two-sided interval.

    Items of one template count as one cluster. All three are null when no item has a value, an end that is unbounded
    is null too.
    """
    with_value = [item for item in items if item["metrics"].get(metric.name) is not None]
    entry = {**asdict(metric), "value": None, "low": None, "high": None, "n": len(with_value)}
    if not with_value:
        return entry
    values, clusters = values_of(with_value, metric.name), clusters_of(with_value)
    interval = share_interval if metric.kind == "binary" else mean_interval
    low, high = interval(values, clusters, confidence)
    if metric.unit == SHARE:  # a t interval knows no bounds
        low, high = max(0.0, low), min(1.0, high)
    return {**entry, "value": sum(values) / len(values), "low": finite(low), "high": finite(high)}


def finite(value: float) -> float | None:
    """The number as JSON has it: None for an unbounded one."""
    return value if isfinite(value) else None


def values_of(items: Iterable[Item], name: str) -> list[float]:
    """The metric's value of each item; every item must have one."""
    return [float(item["metrics"][name]) for item in items]


def clusters_of(items: Iterable[Item]) -> list[str]:
    """What the items were made from: their template, else the item itself."""
    return [str(item.get("template") or item["id"]) for item in items]


def read_items(evaluation: Evaluation) -> list[Item]:
    """The scored items of an evaluation, in their order. Raises DataError for items of the form before metrics were
    declared."""
    with (evaluation.path / "items.jsonl").open(encoding="utf-8", newline="\n") as f:
        items: list[Item] = [json.loads(line) for line in f]
    if items and not isinstance(items[0].get("metrics"), dict):
        raise _earlier_form(evaluation)
    return items


def read_metrics(evaluation: Evaluation) -> dict[str, Any]:
    """The document `metrics.json` of an evaluation. Raises DataError when it is of the form before metrics were
    declared."""
    doc: dict[str, Any] = evaluation.read_json("metrics.json")
    if not isinstance(doc.get("metrics"), list):
        raise _earlier_form(evaluation)
    return doc


def entries(doc: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> entry of every metric in `metrics.json`, in its order."""
    return {entry["name"]: entry for entry in doc["metrics"]}


def _earlier_form(evaluation: Evaluation) -> DataError:
    return DataError(
        f"evaluation {evaluation.uri}",
        "made before metrics were declared",
        "`metrics` in metrics.json and items.jsonl",
        "run the pipeline: it evaluates again",
    )
