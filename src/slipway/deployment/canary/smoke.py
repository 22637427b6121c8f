"""Smoke requests: a few test rows asked of a new engine before anybody else may; every answer must have text."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from slipway.agent.engine_key import OPEN, EngineAccess
from slipway.agent.records import parse_json_lines
from slipway.errors import DataError, EngineError
from slipway.store.artifacts import Dataset
from slipway.system.json_files import as_model

DOCUMENT = "smoke.jsonl"
TOKENS = 64
TIMEOUT_S = 60.0
_MEND = "put back a copy of it; or delete the release and promote its engine again"


class SmokeRow(BaseModel):
    """A test row as a smoke prompt: all messages but the last are asked."""

    id: str
    messages: list[dict[str, Any]]


def smoke_rows(data: Dataset, count: int) -> str:
    """`count` test rows taken evenly, as JSONL. Raises DataError when there are none."""
    text = (data.path / "test.jsonl").read_text(encoding="utf-8")
    lines = [line for line in text.split("\n") if line]  # splitlines would cut a row at U+2028
    if not lines:
        raise DataError(f"test split {data.uri}", "empty", "rows to ask the new engine", "prepare the data again")
    return "".join(f"{line}\n" for line in lines[:: max(1, len(lines) // count)][:count])


def ask(rows: str, url: str, model: str, release: str, access: EngineAccess = OPEN) -> list[dict[str, Any]]:
    """The engine's answer to each of `rows` (JSONL): `id`, `answer`, `json` (whether it is JSON: reported, not
    required), `seconds`. `access`: how it is asked.

    Raises EngineError for an empty answer, StateError for a row that is none.
    """
    from slipway.engines.chat_client import ChatClient  # httpx: a look at the state asks nothing

    thing = f"smoke prompts of release {release}: {DOCUMENT}"
    parsed = [
        as_model(SmokeRow, row, f"{thing}, line {n}", _MEND)
        for n, row in enumerate(parse_json_lines(rows, thing, _MEND), 1)
    ]
    answers = []
    with ChatClient(url, model, TIMEOUT_S, key=access.key or None, context=access.context()) as client:
        for row in parsed:
            answer = client.ask(row.messages[:-1], TOKENS)
            if not answer.text.strip():
                next_step = "read its engine.log; evaluate the engine again"
                raise EngineError(f"release {release}", f"empty answer to test row {row.id}", "text", next_step)
            seconds = round(answer.seconds, 3)
            answers.append({"id": row.id, "answer": answer.text, "json": _is_json(answer.text), "seconds": seconds})
    return answers


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
