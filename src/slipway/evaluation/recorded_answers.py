"""Answers that an evaluation records for later: what this very engine must answer again wherever it starts.

Rows of two kinds. `task`: rows of the test split, as the evaluation asks them. `long`: general prompts answered past
the end token to a fixed length, since a fault that comes with length hides in short answers. Rows are answered with as
many others as the engine has slots; those of the test split then again, each alone. The two show what an engine that
computes rightly changes by itself, so that limits for a later start need not be guessed. One JSON object a line, in
the file `probe.jsonl`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from slipway.config.evaluate import EvaluateConfig
from slipway.data.rows import Row
from slipway.engines.driver import Limits
from slipway.engines.probability_client import NoProbabilitiesError, ProbabilityClient, TokenAnswer
from slipway.errors import DataError, EngineError, StateError
from slipway.evaluation.agreement_prompts import prompts
from slipway.evaluation.quality import choose
from slipway.pipeline.workspace import Workspace
from slipway.system.files import write_atomic
from slipway.system.json_files import as_model, read_text

PROBE = "probe.jsonl"
LONG_ROWS = 6
T = TypeVar("T")
_MEND = "evaluate the engine again and promote that"


class Asked(BaseModel):
    """One request, to be sent again as it is. `long` rows go on past the end token."""

    model_config = ConfigDict(frozen=True)

    id: str
    kind: Literal["task", "long"]
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = []
    max_tokens: int = Field(ge=1)

    def ask(self, client: ProbabilityClient, *, probabilities: bool) -> TokenAnswer:
        """The engine's answer. Raises what the client raises."""
        return client.ask(
            self.messages,
            self.max_tokens,
            tools=self.tools,
            fixed_length=self.kind == "long",
            probabilities=probabilities,
        )


class RecordedRow(Asked):
    """A request with the answers of the evaluated engine: the first is the record, the others are repeats of it."""

    answers: list[TokenAnswer] = Field(min_length=1)

    @property
    def record(self) -> TokenAnswer:
        """What a later start is compared with."""
        return self.answers[0]

    @property
    def has_probabilities(self) -> bool:
        """Whether the engine gave log-probabilities."""
        return bool(self.record.tokens)


def asked_rows(rows: Sequence[Row], count: int, max_new_tokens: int, long_tokens: int) -> list[Asked]:
    """`count` test rows, evenly over labels, and LONG_ROWS general prompts of `long_tokens` tokens."""
    task = [
        Asked(
            id=str(row["id"]),
            kind="task",
            messages=list(row["messages"][:-1]),
            tools=list(row.get("tools", ())),
            max_tokens=max_new_tokens,
        )
        for row in choose(list(rows), count)
    ]
    texts = [[{"role": "user", "content": text}] for text in prompts(LONG_ROWS)]
    return task + [
        Asked(id=f"long:{at}", kind="long", messages=one, max_tokens=long_tokens) for at, one in enumerate(texts)
    ]


def record_answers(
    url: str,
    model: str,
    rows: Sequence[Row],
    limits: Limits,
    max_new_tokens: int,
    params: EvaluateConfig,
    space: Workspace,
) -> None:
    """Write `probe.jsonl` of the engine that answers at `url`, unless `params.probe_items` is 0. Raises EngineError for
    a test row that is not answered."""
    if not params.probe_items:
        return
    asked = asked_rows(rows, params.probe_items, max_new_tokens, min(params.probe_tokens, limits.context // 2))
    client = ProbabilityClient(url, model, params.timeout_s)
    try:
        write_rows(space.out, record(client, asked, limits.slots, space.progress.note))
    finally:
        client.close()


def record(
    client: ProbabilityClient, asked: Sequence[Asked], at_once: int, note: Callable[[str], None]
) -> list[RecordedRow]:
    """Every row answered `at_once` at a time, test rows again alone. An engine without log-probabilities is recorded by
    its texts; a long row that it refuses (a chat template may want a system message) is left out. Both are noted.

    Raises EngineError for a test row that is not answered.
    """
    probabilities = True
    try:
        asked[0].ask(client, probabilities=True)
    except NoProbabilitiesError as err:
        note(f"the recorded answers have no log-probabilities: {err.value}"[:300])
        probabilities = False

    def answer(row: Asked) -> TokenAnswer | None:
        try:
            return row.ask(client, probabilities=probabilities)
        except EngineError as err:
            if row.kind == "task":
                raise
            note(f"row {row.id} is not recorded: {err.value}"[:300])
            return None

    first = dict(zip([row.id for row in asked], in_parallel(answer, asked, at_once), strict=True))
    task = [row for row in asked if row.kind == "task"]
    again = dict(zip([row.id for row in task], in_parallel(answer, task, 1), strict=True))
    answers = {row.id: [one for one in (first[row.id], again.get(row.id)) if one] for row in asked}
    return [RecordedRow(**row.model_dump(), answers=answers[row.id]) for row in asked if answers[row.id]]


def in_parallel(answer: Callable[[Asked], T], rows: Sequence[Asked], at_once: int) -> list[T]:
    """`answer` of every row, in their order, `at_once` at a time; the first exception ends it. The longest are asked
    first, so that none of them is answered alone at the end."""
    with ThreadPoolExecutor(at_once) as pool:
        longest_first = sorted(range(len(rows)), key=lambda at: -rows[at].max_tokens)
        futures = {at: pool.submit(answer, rows[at]) for at in longest_first}
        try:
            return [futures[at].result() for at in range(len(rows))]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def probe_text(rows: Sequence[RecordedRow]) -> str:
    """The rows as the text of a `probe.jsonl`, in ASCII: a model may write half a surrogate pair."""
    return "".join(json.dumps(row.model_dump()) + "\n" for row in rows)


def write_rows(folder: Path, rows: Sequence[RecordedRow]) -> None:
    """Write `probe.jsonl` into `folder`."""
    write_atomic(folder / PROBE, probe_text(rows))


def parse_rows(text: str, thing: str) -> list[RecordedRow]:
    """The rows of a `probe.jsonl`'s text; `thing` names it. Raises StateError for a line that is none, DataError when
    there is no line."""
    lines = text.removesuffix("\n").split("\n") if text else []  # splitlines would cut a text at U+2028
    if not lines:
        raise DataError(thing, "empty", "a row on each line", _MEND)
    return [_row(line, f"{thing}, line {number}") for number, line in enumerate(lines, 1)]


def read_rows(file: Path) -> list[RecordedRow]:
    """The rows of a `probe.jsonl`. Raises StateError when it cannot be read, else what `parse_rows` raises."""
    return parse_rows(read_text(file, "recorded answers", _MEND), f"recorded answers: {file}")


def _row(line: str, thing: str) -> RecordedRow:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError) as err:
        raise StateError(thing, line[:200], "JSON", _MEND) from err
    return as_model(RecordedRow, document, thing, _MEND)
