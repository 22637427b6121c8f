"""A file of records as a table: what is said about it, and what ends the run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.config.data import DataConfig
from slipway.data.funnel import Step
from slipway.data.reading import read_table
from slipway.data.row_table import RowTable
from slipway.errors import DataError
from slipway.system.progress import Progress
from tests.support.tables import chat


def read(tmp_path: Path, text: str, **config: Any) -> tuple[RowTable, list[Step], str]:
    path = tmp_path / "mine.jsonl"
    path.write_text(text, encoding="utf-8")
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    return read_table(path, DataConfig(**config), work, Progress())


def jsonl(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_rows_of_several_formats_are_read_and_said(tmp_path: Path) -> None:
    rows = [chat("a"), chat("b", source="web"), {"prompt": "c", "completion": "d", "source": "x"}]
    table, steps, sentence = read(tmp_path, jsonl(*rows))
    assert [table.row(i)["id"] for i in range(3)] == ["line-1", "line-2", "line-3"]
    assert sentence == "mine.jsonl is JSON lines; format chat (2 rows), pairs (1 rows) (data.format)"
    assert (steps[0].reason, steps[0].rows, steps[0].examples) == ("read", 3, ["column 'source' is not used (2 rows)"])
    assert (steps[1].reason, steps[1].rows, steps[1].left) == ("invalid", 0, 3)
    assert list((tmp_path / "work").iterdir()) == []


def test_bad_rows_end_the_run_with_all_of_them_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError) as err:
        read(tmp_path, jsonl(chat("a"), *[{"body": str(n)} for n in range(12)]))
    assert "12 bad of 13 rows" in str(err.value)
    assert "mine.jsonl:2: columns 'body': expected" in str(err.value)
    assert "and 2 more" in str(err.value)
    listed = (tmp_path / "work" / "rejected.jsonl").read_text().splitlines()
    assert len(listed) == 12


def test_bad_rows_may_be_dropped_and_are_counted(tmp_path: Path) -> None:
    table, steps, _ = read(tmp_path, jsonl(chat("a")) + "{\n", invalid="drop")
    assert len(table) == 1
    assert (steps[0].rows, steps[1].rows, steps[1].key) == (2, 1, "data.invalid")
    assert steps[1].examples[0].startswith("mine.jsonl:2: not JSON")
    with pytest.raises(DataError, match="1 bad of 1 rows"):
        read(tmp_path, "{\n", invalid="drop")


def test_a_format_may_be_required_and_columns_mapped(tmp_path: Path) -> None:
    table, _, _ = read(tmp_path, jsonl({"q": "a", "a": "b"}), columns={"prompt": "q", "completion": "a"})
    assert table.row(0)["messages"][0]["content"] == "a"
    with pytest.raises(DataError, match=r"messages is missing \(data.format=chat\)"):
        read(tmp_path, jsonl({"prompt": "a", "completion": "b"}), format="chat")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (jsonl(chat("a", id="x"), chat("b", id="x")), "mine.jsonl:2: id 'x' is also on line 1"),
        (jsonl(chat("a"), [1]), "a JSON list, expected an object"),
        (jsonl(chat("a"), None), "a JSON null, expected an object"),
        (jsonl(chat("\u200b \ufeff")), "expected text (cut the row before it, or drop the row)"),
        (jsonl({"prompt": "a", "completion": "\u2060"}), "expected text"),
        ('{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "b"}]}', "surrogate"),
        ("", "empty"),
        (" \n\n", "empty"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(DataError) as err:
        read(tmp_path, text)
    assert reason in str(err.value)
