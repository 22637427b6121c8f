"""Reference answers as tokens, and the micro-batches in which a decoder reads them.

    tokens = prompt with its generation header | answer | end of turn        scored: answer and end, nothing after it

A causal decoder computes a position from what stands before it, so rows are padded on the right and padding changes
nothing that is scored. One exception: rotary frequencies that depend on the length of what is read (`dynamic`,
`longrope`); there only rows of one length share a micro-batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from slipway.data.labels import as_error, label_rows
from slipway.data.problems import RowProblem
from slipway.data.rows import Row
from slipway.data.tokens import chat_template

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


def read_answers(rows: Iterable[Row], model_dir: Path) -> list[Answer]:
    """The last message of every row as the model's own chat template writes it after the others: what training learns
    with `train.learn=last`.

    Raises DataError for the first row of which no answer can be learnt, with the reason, and CheckpointError when the
    model has no chat template.
    """
    source, answers = list(rows), list[Answer]()
    for row, labelled in zip(source, label_rows(source, chat_template(model_dir), "last"), strict=True):
        if isinstance(labelled, RowProblem):
            raise as_error(row, labelled)
        answers.append(Answer(str(row.get("id")), tuple(labelled.tokens), labelled.spans[-1][0]))
    return answers


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
