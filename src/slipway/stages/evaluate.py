"""Stage `evaluate`: quality and, when asked, speed of a model as it is served.

Every test row goes through the engine's OpenAI-compatible endpoint, greedily, as many at a time as the engine has
slots. Whole answers are scored by the metrics of the task (`evaluation.shipped`) and stored as they were written.
Greedy does not mean bit-equal: what is decoded together changes the order of floating-point sums, so a near-tie may
fall otherwise next time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from slipway.config.evaluate import EvaluateConfig
from slipway.data.messages import written
from slipway.data.reasoning import parted
from slipway.data.rows import Row, read_rows
from slipway.engines.chat_client import ChatClient, on_the_wire
from slipway.engines.kernel_path import measured_server
from slipway.engines.memory_samples import MemorySamples
from slipway.engines.serving import CARRIERS
from slipway.engines.stage_serving import ServingParams, bundle_server, serving_keys
from slipway.errors import DataError
from slipway.evaluation import judge, metric_files, python_metrics
from slipway.evaluation.load_client import LoadClient
from slipway.evaluation.metric import Item
from slipway.evaluation.quality import choose, score, score_whole, summarize, without_value
from slipway.evaluation.recorded_answers import record_answers
from slipway.evaluation.scorer import Example, Scorer
from slipway.evaluation.shipped import SHIPPED, Settings, check_names, scorers
from slipway.evaluation.speed import measure
from slipway.evaluation.streamed_metrics import Role, add_streamed, unanswered
from slipway.evaluation.task import answer_limit, look, task_of
from slipway.pipeline.workspace import Workspace
from slipway.store.artifacts import Dataset, Engine, Evaluation, ReferenceScores
from slipway.system.files import write_atomic
from slipway.system.progress import Progress

if TYPE_CHECKING:
    from slipway.config.load import Config

OUTPUT = Evaluation
CODE_WITHOUT = CARRIERS

_NOT_KEYED = {"json_schema", "reference", "reference_memory_gb"}
PARTIAL = "items.partial.jsonl"


class EvaluateParams(ServingParams, EvaluateConfig):
    """What the stage needs: the config's section with its files read, and whether to measure speed."""

    speed: bool = Field(False, description="Measure speed after quality.")
    schema_document: dict[str, Any] | None = Field(None, description="The JSON Schema in evaluate.json_schema.")
    judge_prompt: str | None = Field(None, description="The judge's prompt.")
    python_code: dict[str, str] = Field(
        default_factory=dict, description="Package, version and digest of each metric that is an entry point."
    )
    role: Literal["merged", "candidate"] | None = Field(
        None, description="Whose scores of the streamed reference are this model's; null: it has none."
    )

    def key_document(self) -> dict[str, Any]:
        """What files hold and not where they lie, the judge and not where it answers or by which key; how the merge is
        measured, and what the engine is planned for, is in the stage's inputs."""
        document = {name: value for name, value in super().key_document().items() if name not in _NOT_KEYED}
        if self.judge is not None:
            document["judge"] = {"model": self.judge.model, "max_tokens": self.judge.max_tokens}
        return document


def params_of(config: Config, *, speed: bool, role: Role | None = None) -> EvaluateParams:
    """This stage's params in a run, for a model whose speed is measured or not, and that has a streamed reference in a
    `role` or none.

    Raises ConfigError for a metric that does not exist or lacks its settings, and for files that cannot be read.
    """
    section = config.evaluate
    names = section.metrics or []
    return EvaluateParams(
        **section.model_dump(),
        speed=speed,
        **serving_keys(config),
        role=role,
        schema_document=metric_files.json_schema(section.json_schema),
        judge_prompt=metric_files.judge_prompt(section.judge.prompt) if section.judge else None,
        python_code={name: python_metrics.code_of(name) for name in check_names(names, section) if name not in SHIPPED},
    )


def evaluate(
    engine: Engine | None,
    data: Dataset,
    params: EvaluateParams,
    space: Workspace,
    streamed: ReferenceScores | None = None,
) -> None:
    """Write `items.jsonl`, `metrics.json`, `summary.json`, `memory.json` of a server on this machine and, with
    `params.speed`, `speed.json` and `probe.jsonl`. Without an engine nothing is generated: what is measured is what
    `streamed` holds.

    An interrupted evaluation goes on where it stopped. Raises EngineError when the engine dies or does not answer.
    """
    rows, start = choose(read_rows(data.path / "test.jsonl"), params.max_items), time.monotonic()
    if engine is None:
        items, metrics = unanswered(rows, params.confidence)
        speed, seconds = list[dict[str, Any]](), time.monotonic() - start
    else:
        items, metrics, speed, seconds = _served(engine, data, rows, params, space)
    if streamed and params.role:
        add_streamed(items, metrics, streamed, params.role)
    _write(space.out, items, metrics, speed, seconds)


def _served(
    engine: Engine, data: Dataset, rows: list[Row], params: EvaluateParams, space: Workspace
) -> tuple[list[Item], dict[str, Any], list[dict[str, Any]], float]:
    """Items, `metrics.json`, speed runs, and the seconds that answering took."""
    label_key, max_new_tokens = _label_key(data), _max_new_tokens(params, data)
    kind, why = data.summary.get("task") or look(rows, label_key)
    task = task_of(params, (kind, why), label_key)
    space.progress.note(f"{task}; answers of at most {max_new_tokens} tokens")
    measured = scorers(
        task.metrics, Settings(params, label_key, params.schema_document, params.judge_prompt or judge.PROMPT)
    )
    with (
        bundle_server(engine.path, params, space) as endpoint,
        MemorySamples(endpoint) as memory,
        ChatClient(endpoint.url, endpoint.model, params.timeout_s) as client,
    ):
        limits, start = endpoint.plan.limits, time.monotonic()
        items = _answer_all(client, rows, measured, max_new_tokens, limits.slots, space)
        seconds = time.monotonic() - start
        speed = _speed(LoadClient(endpoint.url, endpoint.model, params.timeout_s), rows, params, space)
        speed = [{**run, "server": measured_server(endpoint)} for run in speed]
        if params.speed:  # what may be promoted
            record_answers(endpoint.url, endpoint.model, rows, limits, max_new_tokens, params, space)
    if memory.pairs:
        write_atomic(space.out / "memory.json", json.dumps(memory.pairs) + "\n")
    score_whole(items, rows, measured)
    metrics = summarize(items, measured, params.confidence)
    for note in without_value(metrics):
        space.progress.note(note)
    figures = {"task": asdict(task), "max_new_tokens": max_new_tokens}
    return items, {**metrics, **figures}, speed, seconds


def _speed(client: LoadClient, rows: list[Row], params: EvaluateParams, space: Workspace) -> list[dict[str, Any]]:
    """A run at every concurrency, none where speed is not asked for."""
    if not params.speed:
        return []
    prompts = [[on_the_wire(message) for message in row["messages"][:-1]] for row in rows]
    return measure(client, prompts, params.concurrency, params.speed_requests, space.progress)


def _label_key(data: Dataset) -> str | None:
    """The key of the answer's JSON that names its class, as prepare recorded it; None for free text."""
    if "label_key" not in data.summary:
        raise DataError(f"summary of {data.uri}", "no label_key", "what prepare writes", "run the pipeline again")
    key: str | None = data.summary["label_key"]
    return key


def _max_new_tokens(params: EvaluateParams, data: Dataset) -> int:
    """As the config says, else by the longest reference answer, which prepare measured in the base model's tokens; data
    of before it did so has only bytes, which are never fewer."""
    if params.max_new_tokens != "auto":
        return params.max_new_tokens
    longest = data.summary.get("longest_answer_tokens")
    if longest is None:
        parts = [data.path / name for name in ("train.jsonl", "test.jsonl")]
        answers = (written(row["messages"][-1]) for part in parts if part.exists() for row in read_rows(part))
        longest = max(len(answer.encode("utf-8", "replace")) for answer in answers)
    return answer_limit(int(longest))


def _answer_all(
    client: ChatClient, rows: list[Row], measured: Sequence[Scorer], max_new_tokens: int, slots: int, space: Workspace
) -> list[Item]:
    """An item for every row, in order; each is on the disk before the next progress report."""
    partial = space.work / PARTIAL
    done = {item["id"]: item for item in _answered_before(partial)}
    open_rows = [row for row in rows if row["id"] not in done]
    reported = _Reported(space.progress, len(rows), measured[0].metric.name)
    for item in done.values():
        reported.add(item)
    if len(open_rows) < len(rows):
        space.progress.note(f"{len(rows) - len(open_rows)} items were answered before the interruption")

    def answer(row: Row) -> Item:
        reply = client.ask(row["messages"][:-1], max_new_tokens, tools=row.get("tools", ()))
        thought, text = parted(reply.text)  # some engines part them, some leave that to who asks
        reasoning = reply.reasoning + thought
        return {
            **score(Example(row, text, reply.calls), measured),
            **({"reasoning": reasoning} if reasoning else {}),
            "finish": reply.finish,
            "tokens": reply.completion_tokens,
            "retries": reply.retries,
        }

    with partial.open("a", buffering=1, encoding="utf-8", newline="\n") as out:
        for item in _in_flight(answer, open_rows, slots):
            out.write(_line(item))
            done[item["id"]] = item
            reported.add(item)
            reported.report()
    return [done[row["id"]] for row in rows]


def _in_flight(answer: Callable[[Row], Item], rows: Sequence[Row], slots: int) -> Iterator[Item]:
    """The items as they are answered, at most `slots` at a time: the next row is asked when the caller has taken an
    item, so that what is lost with the process is never more than the rows in flight."""
    waiting: set[Future[Item]] = set()
    left = iter(rows)
    pool = ThreadPoolExecutor(slots)
    try:
        waiting |= {pool.submit(answer, row) for row in islice(left, slots)}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
                waiting |= {pool.submit(answer, row) for row in islice(left, 1)}
    finally:  # not waited for: the server, which answers them, is stopped next
        pool.shutdown(wait=False, cancel_futures=True)


def _answered_before(partial: Path) -> list[Item]:
    """Items of an interrupted evaluation; a half-written last line is cut off."""
    if not partial.exists():
        return []
    whole = partial.read_bytes().rpartition(b"\n")[0]
    write_atomic(partial, (whole + b"\n" if whole else b"").decode("ascii"))
    return [json.loads(line) for line in whole.split(b"\n") if line]


def _line(item: Item) -> str:
    """An item as a line of ASCII: a model may write half a surrogate pair, which UTF-8 cannot hold, or a line separator
    at which readers break lines."""
    return json.dumps(item) + "\n"


@dataclass
class _Reported:
    """Progress with the mean so far of the first metric, over the items that have a value of it already."""

    progress: Progress
    total: int
    metric: str
    items: int = 0
    values: int = 0
    value_sum: float = 0.0

    def add(self, item: Item) -> None:
        """Count an item in, without a report."""
        value = item["metrics"][self.metric]
        self.items += 1
        self.values += value is not None
        self.value_sum += value or 0.0

    def report(self) -> None:
        """Report the items counted."""
        figures = {self.metric: round(self.value_sum / self.values, 4)} if self.values else {}
        self.progress.update("evaluate", self.items, self.total, "items", **figures)


def _write(out: Path, items: list[Item], metrics: dict[str, Any], speed: list[dict[str, Any]], seconds: float) -> None:
    with (out / "items.jsonl").open("w", encoding="utf-8", newline="\n") as f:
        f.writelines(map(_line, items))
    write_atomic(out / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    figures = {"items": metrics["n"], "seconds": round(seconds, 2), "retries": metrics["retries"]}
    figures |= {m["name"]: round(m["value"], 4) for m in metrics["metrics"] if m["value"] is not None}
    if speed:
        write_atomic(out / "speed.json", json.dumps(speed, indent=1) + "\n")
        figures |= {f"tokens_per_s_{run['concurrency']}": run["tokens_per_s"] for run in speed}
    write_atomic(out / "summary.json", json.dumps(figures, indent=1) + "\n")
