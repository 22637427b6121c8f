"""Reference answers as tokens, and the micro-batches in which a decoder reads them.

    tokens = prompt with its generation header | answer | end of turn        scored: answer and end, nothing after it

A causal decoder computes a position from what stands before it, so rows are padded on the right and padding changes
nothing that is scored. One exception: rotary frequencies that depend on the length of what is read (`dynamic`,
`longrope`); there only rows of one length share a micro-batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError

from slipway.calibration.sequences import load_tokenizer
from slipway.errors import DataError

PAD_TO = 16  # tokens; rows of few different lengths share masks and rotary tables
_BY_LENGTH = {"dynamic", "longrope"}


@dataclass(frozen=True)
class Answer:
    """One row as token ids; `tokens[start:]` is the answer with its end."""

    id: str
    tokens: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class Batch:
    """Rows read together: `tokens` int64 [rows, T], each padded on the right with its own last token."""

    answers: tuple[Answer, ...]
    tokens: torch.Tensor


def read_answers(rows: Iterable[Mapping[str, Any]], model_dir: Path) -> list[Answer]:
    """The last message of every row as the model's own chat template writes it after the others.

    Raises DataError for a row that the template refuses or whose prompt is no prefix of the whole, CheckpointError when
    the model has no tokenizer.
    """
    tokenizer = load_tokenizer(model_dir)
    ends = _end_tokens(model_dir, tokenizer)
    return [_answer(row, tokenizer, ends) for row in rows]


def batches(answers: Sequence[Answer], most_tokens: int, *, by_length: bool) -> list[Batch]:
    """Micro-batches of at most `most_tokens` tokens, padding included (one row at least), longest rows first.
    `by_length`: rows of one length only."""
    longest = max((len(answer.tokens) for answer in answers), default=0)
    groups: list[list[Answer]] = []
    width = 0
    for answer in sorted(answers, key=lambda one: (-len(one.tokens), one.id)):
        size = len(answer.tokens)
        if groups and (size == width if by_length else True) and width * (len(groups[-1]) + 1) <= most_tokens:
            groups[-1].append(answer)
            continue
        width = size if by_length else min(longest, -(-size // PAD_TO) * PAD_TO)
        groups.append([answer])
    return [_batch(group, longest, by_length=by_length) for group in groups]


def depends_on_length(config: Mapping[str, Any]) -> bool:
    """Whether the positions of a model with this config.json depend on how long a row is."""
    for key, value in config.items():
        if key in ("rope_type", "type") and value in _BY_LENGTH:
            return True
        if isinstance(value, Mapping) and depends_on_length(value):
            return True
    return False


def _batch(group: Sequence[Answer], longest: int, *, by_length: bool) -> Batch:
    size = len(group[0].tokens)
    width = size if by_length else min(longest, -(-size // PAD_TO) * PAD_TO)
    padded = [[*answer.tokens, *[answer.tokens[-1]] * (width - len(answer.tokens))] for answer in group]
    return Batch(tuple(group), torch.tensor(padded, dtype=torch.int64))


def _answer(row: Mapping[str, Any], tokenizer: Any, ends: set[int]) -> Answer:
    where, messages = f"row {row.get('id')}", row["messages"]
    try:
        prompt = list(_ids(tokenizer, messages[:-1], row, add_generation_prompt=True))
        whole = list(_ids(tokenizer, messages, row, add_generation_prompt=False))
    except (TemplateError, TypeError, ValueError) as err:
        reason = str(err)[:200]
        raise DataError(
            where, f"the chat template refuses it: {reason}", "a row that it takes", "mend the row"
        ) from err
    if whole[: len(prompt)] != prompt or len(whole) == len(prompt):
        raise DataError(
            where,
            "its prompt's tokens are not a prefix of the whole row's",
            "a chat template that appends",
            "use another template, or evaluate.reference=served",
        )
    last = max((at for at in range(len(prompt), len(whole)) if whole[at] in ends), default=len(whole) - 1)
    return Answer(str(row.get("id")), tuple(whole[: last + 1]), len(prompt))


def _ids(tokenizer: Any, messages: Any, row: Mapping[str, Any], *, add_generation_prompt: bool) -> Iterator[int]:
    tools = {"tools": row["tools"]} if row.get("tools") else {}
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt, **tools)
    yield from tokenizer(text, add_special_tokens=False)["input_ids"]


def _end_tokens(model_dir: Path, tokenizer: Any) -> set[int]:
    """Tokens that end an answer: the tokenizer's, and those of the model's configs."""
    ends = {tokenizer.eos_token_id}
    for name in ("generation_config.json", "config.json"):
        file = model_dir / name
        stored = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
        ends |= set(stored) if isinstance(stored, list) else {stored}
    return {end for end in ends if isinstance(end, int)}
