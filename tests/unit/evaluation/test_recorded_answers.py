from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slipway.engines.probability_client import ProbabilityClient
from slipway.errors import DataError, EngineError, StateError
from slipway.evaluation.recorded_answers import LONG_ROWS, PROBE, asked_rows, read_rows, record, write_rows
from tests.support.faulty_engine import faulty
from tests.unit.engines.test_token_client import answering

ROWS = [
    {"id": f"r{i}", "label": "ab"[i % 2], "messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant"}]}
    for i in range(6)
]


def test_test_rows_are_taken_evenly_and_long_ones_added() -> None:
    asked = asked_rows(ROWS, 4, 20, 50)
    assert [row.id for row in asked[:4]] == ["r0", "r1", "r2", "r3"]
    assert [(row.kind, row.max_tokens) for row in asked[3:5]] == [("task", 20), ("long", 50)]
    assert len(asked) == 4 + LONG_ROWS
    assert [message["role"] for message in asked[0].messages] == ["user"]


def test_test_rows_are_answered_twice_long_ones_once_past_their_end() -> None:
    with faulty() as url:
        rows = record(ProbabilityClient(url, "m", 5), asked_rows(ROWS, 3, 40, 50), 4, lambda _: None)
    assert [len(row.answers) for row in rows] == [2] * 3 + [1] * LONG_ROWS
    assert {row.record.finish for row in rows[:3]} == {"stop"}
    assert {len(row.record.tokens) for row in rows[3:]} == {50}


def test_an_engine_without_log_probabilities_is_recorded_by_its_texts_and_says_so() -> None:
    notes: list[str] = []
    with faulty("plain") as url:
        rows = record(ProbabilityClient(url, "m", 5), asked_rows(ROWS, 1, 40, 50), 2, notes.append)
    assert not rows[0].has_probabilities and rows[0].record.text
    assert "no log-probabilities" in notes[0]


def test_a_long_row_that_the_template_refuses_is_left_out_and_named() -> None:
    notes: list[str] = []

    def reply(_: str, body: dict[str, Any]) -> tuple[int, Any]:
        if "ignore_eos" in body:
            return 500, {"error": "a system message is expected"}
        return 200, {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": {}}

    with answering(reply) as url:
        rows = record(ProbabilityClient(url, "m", 5), asked_rows(ROWS, 2, 4, 8), 2, notes.append)
    assert [row.kind for row in rows] == ["task", "task"]
    assert sum("long:" in note and "a system message" in note for note in notes) == LONG_ROWS


def test_a_test_row_that_is_not_answered_is_an_error() -> None:
    with answering(lambda *_: (500, {})) as url, pytest.raises(EngineError, match="HTTP 500"):
        record(ProbabilityClient(url, "m", 5), asked_rows(ROWS, 2, 4, 8), 2, lambda _: None)


def test_rows_survive_their_file_with_any_text(tmp_path: Path) -> None:
    with faulty() as url:
        rows = record(ProbabilityClient(url, "m", 5), asked_rows(ROWS, 1, 9, 9), 1, lambda _: None)
    odd = rows[0].model_copy(update={"answers": [rows[0].record.model_copy(update={"text": "a\u2028\ud800"})]})
    write_rows(tmp_path, [odd, *rows[1:]])
    assert read_rows(tmp_path / PROBE) == [odd, *rows[1:]]


@pytest.mark.parametrize(
    ("text", "error"), [("", DataError), ("{", StateError), ('{"id": "a"}\n', StateError), ("[]\n", StateError)]
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str, error: type[Exception]) -> None:
    (tmp_path / PROBE).write_text(text)
    with pytest.raises(error, match="recorded answers"):
        read_rows(tmp_path / PROBE)
