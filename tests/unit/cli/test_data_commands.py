"""`slipway data show`: rows with marks around what is learnt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from slipway.cli.app import app
from slipway.errors import DataError
from tests.support.pico import write_tokenizer
from tests.support.world import write_rows


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    write_tokenizer(tmp_path)
    write_rows(tmp_path / "rows.jsonl")
    return ["data", "show", "--model", str(tmp_path), "--file", str(tmp_path / "rows.jsonl")]


def test_learnt_tokens_stand_between_marks(words: list[str]) -> None:
    shown = CliRunner().invoke(app, [*words, "--row", "2"], catch_exceptions=False).stdout
    assert shown.startswith("row 2 of 40 ") and "tokens are learnt (train.learn=last)" in shown
    assert "<|im_start|>assistant\n>>>{" in shown and "<|im_end|><<<" in shown
    assert shown.count(">>>") == shown.count("<<<") == 1


def test_three_rows_as_json(words: list[str]) -> None:
    document = json.loads(CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False).stdout)
    assert [one["row"] for one in document["rows"]] == [1, 21, 40]


def test_a_row_that_cannot_be_learnt_and_one_that_is_not_there(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ raise_exception('no system role') }}")
    shown = CliRunner().invoke(app, [*words, "--row", "1"], catch_exceptions=False).stdout
    assert "no system role" in shown and "Way out: " in shown
    with pytest.raises(DataError, match="--row: 99"):
        CliRunner().invoke(app, [*words, "--row", "99"], catch_exceptions=False)
