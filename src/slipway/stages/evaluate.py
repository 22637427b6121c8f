"""Stage `evaluate`: quality and, when asked, speed of a model as it is served.

Every test row goes through the engine's OpenAI-compatible endpoint, greedily, as many at a time as the engine has
slots.

    exact match       the answer parses as JSON and equals the expected JSON, whatever the order of keys and spaces
    intent accuracy   the answer's label key, which the data's summary names, has the expected value

An answer that does not parse is wrong in both, and kept as it was written; one that does not even open an object is not
waited for. Intervals are Wilson's. Greedy does not mean
bit-equal: what is decoded together changes the order of floating-point sums, so a near-tie may fall otherwise next
time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from slipway.config.evaluate import EvaluateConfig
from slipway.data.rows import Row, read_rows
from slipway.engines.bundle import read_serve
from slipway.engines.chat_client import ChatClient
from slipway.engines.server import check_alive, serving
from slipway.errors import DataError, EngineError
from slipway.evaluation.quality import choose, score, summarize
from slipway.evaluation.speed import measure
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Dataset, Engine, Evaluation
from slipway.system.files import write_atomic
from slipway.system.progress import Progress

if TYPE_CHECKING:
    from slipway.config.load import Config

OUTPUT = Evaluation


PARTIAL = "items.partial.jsonl"


class EvaluateParams(EvaluateConfig):
    """What the stage needs: the config's section, and whether to measure speed."""

    speed: bool = Field(False, description="Measure speed after quality.")


def params_of(config: Config, *, speed: bool) -> EvaluateParams:
    """This stage's params in a run, for a model whose speed is measured or not."""
    return EvaluateParams(**config.evaluate.model_dump(), speed=speed)


def evaluate(engine: Engine, data: Dataset, params: EvaluateParams, space: Workspace) -> None:
    """Write `items.jsonl`, `metrics.json`, `summary.json` and, with `params.speed`, `speed.json`.

    An interrupted evaluation goes on where it stopped. Raises EngineError when the engine dies or does not answer.
    """
    rows = choose(read_rows(data.path / "test.jsonl"), params.max_items)
    slots = read_serve(engine.path).slots
    with (
        serving(engine, space.work / "server.log") as server,
        ChatClient(server.url, server.model, params.timeout_s) as client,
    ):
        try:
            start = time.monotonic()
            items = _answer_all(client, rows, _label_key(data), params.max_new_tokens, slots, space)
            seconds = time.monotonic() - start
            speed = (
                measure(client, rows, params.concurrency, params.speed_requests, space.progress) if params.speed else []
            )
        except EngineError:
            check_alive(server)  # a dead server explains more than a lost connection
            raise
    _write(space.out, items, speed, params.confidence, seconds)


def _label_key(data: Dataset) -> str | None:
    """The key of the answer's JSON that names its class, as prepare recorded it; None for free text."""
    if "label_key" not in data.summary:
        raise DataError(f"summary of {data.uri}", "no label_key", "what prepare writes", "run the pipeline again")
    key: str | None = data.summary["label_key"]
    return key


def _answer_all(
    client: ChatClient, rows: list[Row], label_key: str | None, max_new_tokens: int, slots: int, space: Workspace
) -> list[dict[str, Any]]:
    """An item for every row, in order; each is on the disk before the next progress report."""
    partial = space.work / PARTIAL
    done = {item["id"]: item for item in _answered_before(partial)}
    open_rows = [row for row in rows if row["id"] not in done]
    if len(open_rows) < len(rows):
        space.progress.note(f"{len(rows) - len(open_rows)} items were answered before the interruption")

    def answer(row: Row) -> dict[str, Any]:
        reply = client.ask(row["messages"][:-1], max_new_tokens, must_start="{")
        return {
            **score(row, reply.text, label_key),
            "finish": reply.finish,
            "tokens": reply.completion_tokens,
            "retries": reply.retries,
        }

    with partial.open("a", buffering=1, encoding="utf-8") as out, ThreadPoolExecutor(slots) as pool:
        waiting = [pool.submit(answer, row) for row in open_rows]
        try:
            for future in as_completed(waiting):
                item = future.result()
                out.write(json.dumps(item, ensure_ascii=False) + "\n")
                done[item["id"]] = item
                _report(space.progress, done.values(), len(rows))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return [done[row["id"]] for row in rows]


def _answered_before(partial: Path) -> list[dict[str, Any]]:
    """Items of an interrupted evaluation; a half-written last line is cut off."""
    if not partial.exists():
        return []
    whole = partial.read_text(encoding="utf-8").rpartition("\n")[0]
    write_atomic(partial, f"{whole}\n" if whole else "")
    return [json.loads(line) for line in whole.splitlines()]


def _report(progress: Progress, items: Iterable[dict[str, Any]], total: int) -> None:
    right = [item["exact_match"] for item in items]
    progress.update("evaluate", len(right), total, "items", exact_match=round(sum(right) / len(right), 4))


def _write(
    out: Path, items: list[dict[str, Any]], speed: list[dict[str, Any]], confidence: float, seconds: float
) -> None:
    with (out / "items.jsonl").open("w", encoding="utf-8") as f:
        f.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    metrics = summarize(items, confidence)
    write_atomic(out / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    figures = {"items": metrics["n"], "seconds": round(seconds, 2), "retries": metrics["retries"]}
    figures |= {name: round(metrics[name]["value"], 4) for name in ("exact_match", "intent_accuracy")}
    if speed:
        write_atomic(out / "speed.json", json.dumps(speed, indent=1) + "\n")
        figures |= {f"tokens_per_s_{run['concurrency']}": run["tokens_per_s"] for run in speed}
    write_atomic(out / "summary.json", json.dumps(figures, indent=1) + "\n")
