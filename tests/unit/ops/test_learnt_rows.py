"""Rows with what is learnt of them, for a person."""

import json

import pytest

from slipway.config.load import Config
from slipway.errors import DataError
from slipway.ops.learnt_rows import learnt_rows
from tests.support.pico import write_tokenizer
from tests.support.world import small_config


def two_turns(i: int) -> dict:
    texts = [("user", f"lamp {i}"), ("assistant", "on"), ("user", "and off"), ("assistant", f"off {i}")]
    return {"id": f"r{i}", "messages": [{"role": role, "content": text} for role, text in texts]}


@pytest.fixture
def given(tmp_path):
    """A model directory with a tokenizer, and a file of nine rows."""
    write_tokenizer(tmp_path)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(two_turns(i)) + "\n" for i in range(9)))
    return {"model": tmp_path, "rows_file": file, "on_event": lambda event: None}


def config(learn: str) -> Config:
    return Config.model_validate({"train": {"learn": learn}})


def marked(one: dict) -> list[str]:
    return [part["text"] for part in one["segments"] if part["learnt"]]


def test_three_rows_spread_over_the_file_or_the_one_asked_for(given, tmp_path):
    document = learnt_rows(config("last"), tmp_path, **given)
    assert [(one["row"], one["id"]) for one in document["rows"]] == [(1, "r0"), (5, "r4"), (9, "r8")]
    assert (document["of"], document["file"], document["learn"]) == (9, "rows.jsonl", "last")
    (one,) = learnt_rows(config("last"), tmp_path, number=7, **given)["rows"]
    assert one["id"] == "r6" and marked(one) == ["off 6<|im_end|>"]


def test_segments_are_the_whole_row_and_learn_chooses_the_answers(given, tmp_path):
    (one,) = learnt_rows(config("all"), tmp_path, number=1, **given)["rows"]
    assert marked(one) == ["on<|im_end|>", "off 0<|im_end|>"]
    assert "".join(part["text"] for part in one["segments"]).startswith("<|im_start|>user\nlamp 0<|im_end|>")
    assert sum(part["tokens"] for part in one["segments"]) == one["tokens"]
    assert sum(part["tokens"] for part in one["segments"] if part["learnt"]) == one["learnt"]


def test_a_row_that_cannot_be_learnt_says_why(given, tmp_path):
    (tmp_path / "chat_template.jinja").write_text("{{ raise_exception('roles must alternate') }}")
    (one,) = learnt_rows(config("last"), tmp_path, number=1, **given)["rows"]
    assert "roles must alternate" in one["problem"] and one["way_out"]


@pytest.mark.parametrize("number", [0, 10, -1])
def test_a_row_that_is_not_there_is_one_error(given, tmp_path, number):
    with pytest.raises(DataError, match=rf"--row: {number}; expected a row from 1 to 9"):
        learnt_rows(config("last"), tmp_path, number=number, **given)


def test_the_runs_own_rows_come_from_its_stages(tmp_path, monkeypatch):
    """fetch and prepare are made once, in the run's store."""
    monkeypatch.chdir(tmp_path)
    run = small_config(tmp_path, "sqlite:///none.db", 9)
    notes = []
    document = learnt_rows(run, tmp_path, number=2, on_event=notes.append)
    assert document["file"] == "train.jsonl" and document["rows"][0]["learnt"] > 2
    assert {p.name for p in (tmp_path / "store").iterdir()} >= {"checkpoint", "dataset"} and notes
    notes.clear()
    assert learnt_rows(run, tmp_path, number=2, on_event=notes.append) == document and not notes
