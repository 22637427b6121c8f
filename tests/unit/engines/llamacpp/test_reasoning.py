"""Whether llama-server asks a model to reason; tests/lab compares the prompts themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway.engines.llamacpp.reasoning import reasoning_options
from tests.support.chat_tokenizers import CHATML, FAMILIES, QWEN3_OFF, QWEN3_ON, QWEN3_THINKING, tokenizer_of

FLAG = "{% if add_generation_prompt and enable_thinking is undefined %}{{ '?' }}{% endif %}"


@pytest.mark.parametrize(
    ("template", "options"),
    [
        (QWEN3_ON, ["--reasoning", "on"]),
        (QWEN3_OFF, ["--reasoning", "off"]),
        (QWEN3_THINKING, []),
        (CHATML, []),
        (CHATML + FLAG, []),
        ("{{ raise_exception('never') }}{# enable_thinking #}", []),
    ],
)
def test_the_value_that_writes_what_none_writes(template: str, options: list[str], tmp_path: Path) -> None:
    tokenizer = tokenizer_of(FAMILIES["qwen3"])
    tokenizer.chat_template = template
    tokenizer.save_pretrained(str(tmp_path))
    assert reasoning_options(tmp_path) == options
