"""Stage `reference`: the merge and its quantized form score the reference answers of the test split, without a server.

Nothing is generated: each model reads prompt and reference answer (teacher forcing), layer by layer, so that neither is
ever in memory. `streaming.streamed_reference` says what is held and how a killed run goes on.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pydantic import Field

from slipway.config.base import Section
from slipway.data.rows import read_rows
from slipway.errors import CheckpointError, DataError
from slipway.evaluation.quality import choose
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Checkpoint, Dataset, Quantized, ReferenceScores
from slipway.system.files import write_atomic
from slipway.system.memory import PeakMemory

if TYPE_CHECKING:
    from slipway.calibration.answer_scores import AnswerScore
    from slipway.config.load import Config

OUTPUT = ReferenceScores


class ReferenceParams(Section):
    """What the stage needs of section `evaluate`."""

    max_items: int | None = Field(description="Test items scored, taken evenly over labels; null: all.")
    memory_gb: float = Field(gt=0, description="Hidden states held, GB.")
    required: bool = Field(description="An architecture or a template that cannot be streamed is an error.")


def params_of(config: Config, *, required: bool = True) -> ReferenceParams:
    """This stage's params in a run. Not `required`: what cannot be streamed is said, and the run goes on."""
    evaluate = config.evaluate
    return ReferenceParams(max_items=evaluate.max_items, memory_gb=evaluate.reference_memory_gb, required=required)


def reference(
    merged: Checkpoint, quantized: Quantized, data: Dataset, params: ReferenceParams, space: Workspace
) -> None:
    """Write `scores.jsonl`, a line an item, and `summary.json`. Where the model cannot be streamed and `params` does
    not require it, `scores.jsonl` is empty and the summary says why under `refused`.

    Raises CheckpointError and DataError for what cannot be streamed, where it is required.
    """
    start = time.monotonic()
    try:
        with PeakMemory() as memory:
            scores, figures = _score(merged, quantized, data, params, space)
    except (CheckpointError, DataError) as err:
        if params.required:
            raise
        space.progress.note(f"no streamed reference: {err}")
        scores, figures = [], {"refused": str(err)}
    figures |= {"seconds": round(time.monotonic() - start, 2), "peak_anonymous_gb": round(memory.peak / 1e9, 3)}
    write_atomic(space.out / "scores.jsonl", "".join(json.dumps(asdict(one)) + "\n" for one in scores))
    write_atomic(space.out / "summary.json", json.dumps({**_means(scores), **figures}, indent=1) + "\n")


def _score(
    merged: Checkpoint, quantized: Quantized, data: Dataset, params: ReferenceParams, space: Workspace
) -> tuple[list[AnswerScore], dict[str, Any]]:
    """Every item's scores, and where they were computed. torch and transformers are loaded here."""
    from slipway.calibration.answers import read_answers
    from slipway.streaming.streamed_reference import Machine, StreamedReference
    from slipway.weights.checkpoint import open_checkpoint

    answers = read_answers(choose(read_rows(data.path / "test.jsonl"), params.max_items), merged.path)
    machine = Machine.here(params.memory_gb * 1e9)
    walk = StreamedReference(open_checkpoint(merged), merged.path, quantized.path, machine)
    passes = len(walk.passes(answers))
    space.progress.note(
        f"streamed reference: {len(answers)} items on {machine.device}, at most {params.memory_gb:g} GB of hidden "
        f"states in memory and as much on disk, {passes} pass{'es' if passes > 1 else ''} over the weights"
    )
    scores = walk.score(answers, space.work, space.progress)
    return scores, {"device": str(machine.device), "dtype": str(machine.dtype), "passes": passes, **machine.peak()}


def _means(scores: list[AnswerScore]) -> dict[str, Any]:
    """Figures of the whole test split, each token of an answer counting once."""
    tokens = sum(one.tokens for one in scores)
    if not tokens:
        return {"items": len(scores), "answer_tokens": 0}
    return {
        "items": len(scores),
        "answer_tokens": tokens,
        "merged_nats_per_token": round(-sum(one.reference for one in scores) / tokens, 6),
        "quantized_nats_per_token": round(-sum(one.other for one in scores) / tokens, 6),
        "kl": round(sum(one.kl * one.tokens for one in scores) / tokens, 6),
        "agreement": round(sum(one.agreement * one.tokens for one in scores) / tokens, 6),
    }
