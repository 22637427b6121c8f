"""Lengths of rows as the model will read them: its own chat template and tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer

from slipway.data.rows import Row
from slipway.errors import CheckpointError


def token_lengths(rows: Sequence[Row], model: Path) -> list[int]:
    """Tokens of each row, chat template included. Raises CheckpointError when the model directory has no tokenizer or
    no template."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(model), local_files_only=True)
    except (OSError, ValueError) as err:
        raise CheckpointError(
            f"model directory {model}",
            str(err).splitlines()[0],
            "a tokenizer beside the weights",
            "copy its files there",
        ) from err
    if not tokenizer.chat_template:
        raise CheckpointError(
            f"tokenizer in {model}",
            "no chat template",
            "an instruct model",
            "use one, or add chat_template.jinja to the directory",
        )
    texts = [tokenizer.apply_chat_template(row["messages"], tools=row.get("tools"), tokenize=False) for row in rows]
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []
