"""Prompts are many, different, and read as the model reads them."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from slipway.errors import CheckpointError
from slipway.evaluation.agreement_prompts import MOST, prompt_tokens, prompts
from tests.support.pico import write_tokenizer


def test_fifty_different_ones_and_the_first_few_differ_in_form_and_subject() -> None:
    every = prompts(MOST)
    assert MOST == len(set(every)) == 50
    first = prompts(4)
    assert first == every[:4] and len({text[:12] for text in first}) == 4


def test_by_the_chat_template_or_plain(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    chat = prompt_tokens(tmp_path, 2)
    assert tokenizer.decode(chat[0]).startswith("<|im_start|>user\n" + prompts(1)[0])
    assert tokenizer.decode(chat[0]).endswith("<|im_start|>assistant\n")
    (tmp_path / "chat_template.jinja").unlink()
    assert tokenizer.decode(prompt_tokens(tmp_path, 2)[1]).endswith(prompts(2)[1])


def test_a_model_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="tokenizer"):
        prompt_tokens(tmp_path, 1)
