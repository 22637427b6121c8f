"""Rows as the model will read them: its own chat template and tokenizer, and their lengths."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from slipway.data.chat_template import ChatTemplate
from slipway.data.messages import written
from slipway.data.rows import Row
from slipway.errors import CheckpointError

LOOKED_AT = 64  # tokens follow bytes closely: the longest in tokens is among the longest in bytes, or nearly as long


def chat_template(model: Path) -> ChatTemplate:
    """The chat template, tokenizer and stop tokens of a model directory. Raises CheckpointError when it has no
    tokenizer or no template."""
    tokenizer = _tokenizer(model)
    if not tokenizer.chat_template:
        raise CheckpointError(
            f"tokenizer in {model}",
            "no chat template",
            "an instruct model",
            "use one, or add chat_template.jinja to the directory",
        )
    return ChatTemplate.of(tokenizer, stop_ids(model))


def plain_tokens(model: Path, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of texts as the tokenizer reads them without a template. Raises CheckpointError when there is none."""
    ids: list[list[int]] = _tokenizer(model)(list(texts))["input_ids"]
    return ids


def _tokenizer(model: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(str(model), local_files_only=True)
    except (OSError, ValueError) as err:
        raise CheckpointError(
            f"model directory {model}",
            str(err).splitlines()[0],
            "a tokenizer beside the weights",
            "copy its files there",
        ) from err


def stop_ids(model: Path) -> list[int]:
    """Token ids at which generation stops: `eos_token_id` of generation_config.json, else of config.json, a number or
    a list."""
    for name in ("generation_config.json", "config.json"):
        file = model / name
        ids = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
        if ids is not None:
            return [one for one in (ids if isinstance(ids, list) else [ids]) if isinstance(one, int)]
    return []


def token_lengths(rows: Sequence[Row], model: Path) -> list[int]:
    """Tokens of each row, chat template included. Raises what `chat_template` raises, and RowProblem for a row that the
    template refuses."""
    template = chat_template(model)
    texts = [template.render(row["messages"], row.get("tools"), prompt=False) for row in rows]
    return [len(ids) for ids in template.encode(texts)]


def longest_answer_tokens(rows: Iterable[Row], model: Path) -> int:
    """Tokens of the longest last answer, of the `LOOKED_AT` longest by bytes; the end of the turn counts as one. 0 for
    no row. Raises what `chat_template` raises."""
    answers = (written(row["messages"][-1]) for row in rows)
    longest = heapq.nlargest(LOOKED_AT, answers, key=lambda text: len(text.encode("utf-8", "replace")))
    return 1 + max(len(ids) for ids in chat_template(model).encode(longest)) if longest else 0
