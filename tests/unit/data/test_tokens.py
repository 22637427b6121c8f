"""Lengths of rows by the model's own template and tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from slipway.data.tokens import longest_answer_tokens, token_lengths
from slipway.errors import CheckpointError
from tests.support.pico import write_tokenizer

ROWS = [
    {"messages": [{"role": "user", "content": "on"}, {"role": "assistant", "content": "yes"}]},
    {"messages": [{"role": "user", "content": "on and on"}, {"role": "assistant", "content": "yes"}]},
]


def test_a_row_is_as_long_as_its_text_in_the_chat_template(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path))
    whole = [tokenizer.apply_chat_template(r["messages"], tokenize=False) for r in ROWS]
    lengths = token_lengths(ROWS, tmp_path)
    assert lengths == [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in whole]
    assert lengths[1] > lengths[0]
    assert token_lengths([], tmp_path) == []


def test_the_longest_answer_counts_its_end(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path))
    rows = [{"messages": [{"role": "assistant", "content": "yes " * n}]} for n in (1, 30, 7)]
    want = len(tokenizer("yes " * 30, add_special_tokens=False)["input_ids"]) + 1
    assert longest_answer_tokens(rows, tmp_path) == want
    assert longest_answer_tokens([], tmp_path) == 0


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a tokenizer beside the weights"):
        token_lengths(ROWS, tmp_path)


def test_a_tokenizer_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path))
    tokenizer.chat_template = None
    tokenizer.save_pretrained(str(tmp_path / "base"))
    with pytest.raises(CheckpointError, match=r"tokenizer in .*/base: no chat template; expected an instruct model"):
        token_lengths(ROWS, tmp_path / "base")
