"""What a release answered when it was evaluated: the rows asked, its answers, and the metrics that judge both.

Found by the digest of the verdict that the release's record names, in the store that it was shipped from: prompts stay
there, a target gets none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from slipway.config.load import Config
from slipway.data.rows import Row, read_rows
from slipway.deployment.candidate import named_verdict
from slipway.deployment.releases import Release
from slipway.errors import StateError
from slipway.evaluation import judge
from slipway.evaluation.label_metrics import ClassOf
from slipway.evaluation.metric import SHARE, Item, read_items, read_metrics
from slipway.evaluation.scorer import Scorer
from slipway.evaluation.shipped import Settings, scorers
from slipway.stages.evaluate import EvaluateParams
from slipway.store.artifacts import Artifact, Dataset, Evaluation
from slipway.store.references import resolve
from slipway.store.store import A, load, verify
from slipway.system.json_files import as_model

CLASSED = ("json", "label")  # tasks whose answers have a class
_AGAIN = "watch with the store that it was shipped from (store.root); or run again and promote that"


class _Task(BaseModel):
    """What is read of the task in a `metrics.json`."""

    kind: str
    metrics: list[str]


class _Item(BaseModel):
    """What a look needs of a line of `items.jsonl`."""

    answer: str
    tokens: int = Field(ge=0)


class _Measured(BaseModel):
    """What is read of a `metrics.json` beside the metrics."""

    task: _Task
    max_new_tokens: int = Field(ge=1)


@dataclass(frozen=True)
class Baseline:
    """One release's evaluation. `rows` and `items` are of the same test rows, in one order. `measures`: metrics that
    are judged at a look; `left_out`: the others, each with the reason. `class_of`: an answer's class, None where the
    task has no classes."""

    rows: Sequence[Row]
    items: Sequence[Item]
    measures: Sequence[Scorer]
    left_out: Mapping[str, str]
    max_new_tokens: int
    class_of: ClassOf | None


def baseline_of(release: Release, config: Config) -> Baseline:
    """The evaluation that a release was promoted by. Raises StateError where it is not in this store, was made by an
    earlier version, or generated no answers."""
    thing = f"evaluation of release {release.name}"
    if "verdict" not in release.digests:
        raise StateError(thing, "its record names no verdict", "the verdict it was promoted by", _AGAIN)
    try:
        verdict = named_verdict(release.digests["verdict"], config)
    except StateError as err:
        raise StateError(thing, f"{err.thing}: {err.value}", "in the store", _AGAIN) from err
    evaluation = _input(Evaluation, verdict, "candidate", thing)
    data = _input(Dataset, evaluation, "data", thing)
    items = [item for item in read_items(evaluation) if "answer" in item]
    for item in items:
        as_model(_Item, item, f"{thing}: items.jsonl", _AGAIN)
    by_id = {str(row["id"]): row for row in read_rows(data.path / "test.jsonl")}
    if not items or (missing := [item["id"] for item in items if str(item["id"]) not in by_id]):
        value = (
            f"its data has no row {missing[0]}" if items else "it generated no answers (it scored reference answers)"
        )
        raise StateError(thing, value, "answers to its test rows", _AGAIN)
    return _baseline([by_id[str(item["id"])] for item in items], items, evaluation, data, thing)


def _baseline(
    rows: Sequence[Row], items: Sequence[Item], evaluation: Evaluation, data: Dataset, thing: str
) -> Baseline:
    document = read_metrics(evaluation)
    measured = as_model(_Measured, document, f"{thing}: metrics.json", _AGAIN)
    params = as_model(
        EvaluateParams, evaluation.manifest["provenance"].get("params", {}), f"{thing}: its params", _AGAIN
    )
    label_key: str | None = data.summary.get("label_key")
    settings = Settings(params, label_key, params.schema_document, params.judge_prompt or judge.PROMPT)
    measures, left_out = [], {entry["name"]: "no answers say it" for entry in document["metrics"]}
    for scorer in scorers([name for name in measured.task.metrics if name in left_out], settings):
        name = scorer.metric.name
        if name == "judge":
            left_out[name] = "a judge is asked at promotions only"
        elif scorer.score_all is not None:
            left_out[name] = "it has no value of one item"
        elif scorer.metric.unit != SHARE:
            left_out[name] = "watch.max_drop is a share, this metric is none"
        else:
            del left_out[name]
            measures.append(scorer)
    classed = measured.task.kind == "label" or (measured.task.kind == "json" and label_key is not None)
    return Baseline(rows, items, measures, left_out, measured.max_new_tokens, settings.class_of() if classed else None)


def _input(cls: type[A], artifact: Artifact, name: str, thing: str) -> A:
    """An input of an artifact of the store."""
    inputs: Mapping[str, Any] = artifact.manifest["provenance"].get("inputs", {})
    if name not in inputs:
        raise StateError(thing, f"{artifact.path} names no {name}", "the inputs of its stage", _AGAIN)
    try:
        loaded = load(cls, resolve(inputs[name], artifact.path))
    except StateError as err:
        raise StateError(thing, f"{err.thing}: {err.value}", "in the store", _AGAIN) from err
    if loaded.digest != inputs[name]["digest"]:
        raise StateError(thing, f"{cls.kind} {loaded.path} was made again since", "the one it was judged by", _AGAIN)
    if problem := verify(loaded.path):
        raise StateError(thing, f"{cls.kind} {loaded.path}: {problem}", "intact bytes", _AGAIN)
    return loaded
